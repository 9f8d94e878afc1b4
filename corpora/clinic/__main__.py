"""Prints the clinic world for a look: ``python -m corpora.clinic [--seed N]``."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from random import Random
from statistics import mean

from corpora.clinic.answers import QUALITIES
from corpora.clinic.knowledge import Combo, Intent
from corpora.clinic.questions import ask, combo_of
from corpora.clinic.world import ClinicWorld, demonstrated_qualities
from corpora.preference import Pair

SHOWN = (Combo("migraine", Intent.SELF_CARE), Combo("gout", Intent.CAUSES))


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes counts, two groups with grades and the balance of the pairs to standard output."""
    parser = argparse.ArgumentParser(description="Look at the bundled clinic world.")
    parser.add_argument("--seed", type=int, default=0)
    world = ClinicWorld(seed=parser.parse_args(arguments).seed)
    for line in describe(world):
        sys.stdout.write(line + "\n")


def describe(world: ClinicWorld) -> Iterator[str]:
    """One line a figure, then one line an answer."""
    pairs = world.reward_pairs({})
    shown = world.demonstrations()
    words = sum(len((d.conversation.last + " " + d.response).split()) for d in shown)
    yield f"digest            {world.digest}"
    yield f"conditions        {len(world.knowledge.conditions)}"
    yield f"combinations      {len(world.knowledge.combos)}"
    yield f"demonstrations    {len(shown)} ({words} words)"
    yield f"reward pairs      {len(pairs.train)} train, {len(pairs.heldout)} held out"
    yield f"mix, mean gold    {mix_gold(world):.3f}"
    yield f"longer wins       {longer_wins(pairs.heldout):.3f} of held-out pairs"
    for combo in SHOWN:
        yield ""
        yield ask(world.knowledge, combo, 0)
        yield from _group(world, combo)


def mix_gold(world: ClinicWorld) -> float:
    """Mean grade of one answer in each demonstrated quality to every held-out combination."""
    writer = world.writer(Random(world.seed))
    return mean(
        world.gold(question, writer.write(combo_of(question.id), quality))
        for question in world.heldout_questions(300)
        for quality in demonstrated_qualities(combo_of(question.id).intent)
    )


def longer_wins(pairs: Sequence[Pair]) -> float:
    """Accuracy of preferring the answer with more words; equal lengths count one half."""
    lengths = [(len(pair.chosen.split()), len(pair.rejected.split())) for pair in pairs]
    return mean(0.5 if a == b else float(a > b) for a, b in lengths)


def _group(world: ClinicWorld, combo: Combo) -> Iterator[str]:
    writer = world.writer(Random(world.seed))
    for quality in QUALITIES:
        if quality.suits(combo.intent):
            answer = writer.write(combo, quality)
            yield f"  {world.grader.grade(combo, answer).total:.2f}  {quality.name:17} {answer}"


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader that has seen enough is no error
    main()

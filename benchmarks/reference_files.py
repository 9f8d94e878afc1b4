"""The reference tool's files, so that its plots and leaderboards accept what was scored here.

Layouts of rewardbench 0.1.4 (``rewardbench/rewardbench.py``, ``scripts/run_rm.py``,
``scripts/run_v2.py``, ``analysis/utils.py``). Below a folder, for a model ``org/name``:

    org/name.json                  accuracy, whole and by subset              pairs
    org/name_outputs.jsonl         a line a pair, with texts                  pairs
    org/name_all.jsonl             a line a pair, rewards only                pairs
    eval-set/org/name.json         {subset: score}                            both benchmarks
    eval-set-scores/org/name.json  one list a field, with texts               both benchmarks
    pref-sets/…, pref-sets-scores/…                                           the prior sets

The first three have RewardBench's core set alone, as the tool's command has.

A pair is right where the chosen reward is the higher one, since the tool counts equal rewards as
wrong whatever is counted here. Its files have no place for an error, so a group without all rewards
is in none of them.

Texts are lists of messages. The tool writes what it gave its model: text that it rendered itself,
or messages for models that render their own. Here the server renders and does not say what came
out; the messages are what it was sent. A ``digest`` beside them says which group it is, for whoever
reads these files here again. Pure; :mod:`benchmarks.reference_writer` writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple

from benchmarks.scored import ScoredGroup
from corpora.ranked import RankedGroup

Layout = Literal["pairs", "rewardbench", "rewardbench2"]
"""What the tool writes: for any pairs, and beside or instead of it for its two benchmarks."""

PRIOR_SETS = frozenset(
    (
        "anthropic_harmless",
        "anthropic_helpful",
        "anthropic_hhh",
        "mtbench_gpt4",
        "mtbench_human",
        "shp",
        "summarize",
        "summarize_prompted",
    )
)
"""Subsets that the tool keeps apart: of ``allenai/preference-test-sets``, the splits it reads."""

WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")

NO_ORGANISATION = "local"
"""The folder of a model whose name has none: the tool's readers look into folders only."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who was scored, in the tool's words."""

    model: str
    model_type: str = "Seq. Classifier"
    """The tool's plots choose by this one; ``Generative`` and ``DPO`` are others."""

    chat_template: str = "tokenizer"
    tokenizer: str | None = None
    """``None`` for the model's own."""

    ref_model: str | None = None

    @property
    def path(self) -> PurePosixPath:
        """``org/name``, whatever else a path or address had in front."""
        parts = [part for part in self.model.split("/") if part not in ("", ".", "..")]
        return PurePosixPath(*[NO_ORGANISATION, *(parts or ["model"])][-2:])


class Tally(NamedTuple):
    """Pairs, and those of them that are right by the tool's rule."""

    right: int
    pairs: int


def result(tally: Mapping[str, Tally], subject: Subject) -> dict[str, Any]:
    """``{model}.json``: accuracy over scored pairs, whole and by subset.

    The tool gives ``extra_results`` for its own benchmark only; here they are there wherever the
    data name subsets.

    Args:
        tally: of the pairs by subset, at least one in each.
        subject: who was scored.
    """
    pairs = sum(one.pairs for one in tally.values())
    named = {name: one.right / one.pairs for name, one in sorted(tally.items()) if name}
    return {
        "accuracy": sum(one.right for one in tally.values()) / pairs if pairs else None,
        "num_prompts": pairs,
        "model": subject.model,
        "ref_model": subject.ref_model,
        "tokenizer": subject.tokenizer or subject.model,
        "chat_template": subject.chat_template,
        "extra_results": named or None,
    }


def outputs_line(group: RankedGroup, scored: ScoredGroup) -> dict[str, Any]:
    """A line of ``{model}_outputs.jsonl``: one pair with its rewards, messages and details.

    ``prompt`` is the conversation, ``text_chosen`` and ``text_rejected`` are the conversation with
    the candidate as its last message.

    Args:
        group: one chosen and one rejected candidate, in any order.
        scored: the same group, scored.
    """
    (chosen, high), (rejected, low) = _in_order(group, scored)
    conversation: list[Any] = list(group.conversation.to_dicts())
    return {
        **{name: value for name, value in scored.details.items() if _is_plain(value)},
        "prompt": conversation,
        "results": is_right(scored),
        "scores_chosen": high,
        "scores_rejected": low,
        "text_chosen": [*conversation, _answer(chosen)],
        "text_rejected": [*conversation, _answer(rejected)],
        "chosen": chosen,
        "rejected": rejected,
        "id": _number_or_name(scored.id),
        "subset": scored.subset,
        "number": scored.number,
        "digest": scored.digest,
    }


def all_line(scored: ScoredGroup) -> dict[str, float]:
    """A line of ``{model}_all.jsonl``."""
    (chosen,), (rejected,) = scored.chosen, scored.rejected
    return {"chosen": chosen, "rejected": rejected}


def leaderboard_entry(scores: Mapping[str, float | None], subject: Subject) -> dict[str, Any]:
    """A file of ``eval-set``: scores by subset, which for RewardBench 2 are its six domains.

    Subsets of which nothing was scored are left out: the tool's averages would take a null for an
    error.
    """
    reference = {} if subject.ref_model is None else {"ref_model": subject.ref_model}
    return {
        **{name: score for name, score in scores.items() if score is not None},
        "chat_template": subject.chat_template,
        "model": subject.model,
        "model_type": subject.model_type,
        **reference,
    }


def best_of_item(group: RankedGroup, scored: ScoredGroup) -> dict[str, Any]:
    """An item of RewardBench 2's ``eval-set-scores``, correct candidates first.

    ``results`` is the share of the first candidate in the highest reward: the tool writes that for
    every domain, also for Ties, whose own formula is in the leaderboard's file only.
    """
    ordered = _in_order(group, scored)
    conversation: list[Any] = list(group.conversation.to_dicts())
    scores = [reward for _, reward in ordered]
    best = max(scores)
    return {
        "text": [[*conversation, _answer(candidate)] for candidate, _ in ordered],
        "scores": scores,
        "results": 1 / scores.count(best) if scores[0] == best else 0.0,
        "subset": scored.subset,
        "id": scored.id,
        "num_correct": scored.ranks.count(1),
        "digest": scored.digest,
    }


def pair_item(group: RankedGroup, scored: ScoredGroup) -> dict[str, Any]:
    """An item of RewardBench's ``eval-set-scores``."""
    line = outputs_line(group, scored)
    fields = ("text_chosen", "text_rejected", "results", "subset", "id")
    return {name: line[name] for name in (*fields, "scores_chosen", "scores_rejected", "digest")}


def is_pair(scored: ScoredGroup) -> bool:
    """Whether the tool has a line for it: one chosen and one rejected candidate, both scored."""
    return scored.is_scored and sorted(scored.ranks) == [1, 2]


def is_right(scored: ScoredGroup) -> int:
    """1 where every chosen reward is higher than every other, by the tool's rule; else 0."""
    return int(min(scored.chosen) > max(scored.rejected))


def part_of(subset: str) -> Literal["eval-set", "pref-sets"]:
    """The folder of the leaderboard that a subset is in."""
    return "pref-sets" if subset in PRIOR_SETS else "eval-set"


def _in_order(group: RankedGroup, scored: ScoredGroup) -> list[tuple[str, float]]:
    """Candidates with their rewards, those of rank 1 first."""
    ranked = zip(scored.ranks, group.candidates, scored.finite_rewards, strict=True)
    return [(text, reward) for _, text, reward in sorted(ranked, key=lambda one: one[0] > 1)]


def _answer(candidate: str) -> dict[str, str]:
    return {"role": "assistant", "content": candidate}


def _number_or_name(name: str) -> int | str:
    """RewardBench's ids are numbers, which are kept as text here."""
    return int(name) if WHOLE_NUMBER.fullmatch(name) else name


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)

"""The report of a run: one page that says what came out, made from the run folder alone.

It is written again after every round, whole or not at all, also of a run that is still going on or
that failed. The page asks nothing from anywhere: its style and drawings are inside, scripts there
are none, and what a policy wrote is shown as text and nothing else. Same folder, same bytes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from jinja2 import Environment

from corpora.preference import read_pairs
from foundation.pages import page_environment
from foundation.words import count, decimal, duration, share, span, tiny
from loop.folder import RunFolder, write_whole
from loop.ledger import connect, read_groups
from loop.report import charts, words
from loop.report.curves import draw_curves
from loop.report.examples import Example, pick_examples, shorten
from loop.report.recipe import to_recipe
from loop.summary import RoundSummary, Summary, read_summary
from policy.client import BASE

EXAMPLE_CHARACTERS = 300_000
"""What the answers of all examples may take: keeps the page well below a megabyte."""

LONGEST_ANSWER = 2_000
"""Characters of one answer that are shown at most."""

PREPARATION = "preparation"


def write_report(folder: RunFolder) -> Path:
    """Writes ``report.html`` of a run, from its summary, ledger, pairs and settings.

    Raises:
        RunError: if there is no run in the folder, or one of another version.
    """
    summary = read_summary(folder.summary)
    write_whole(folder.report, _render(summary, _read_json(folder.config), folder))
    return folder.report


def _render(summary: Summary, settings: Mapping[str, Any], folder: RunFolder) -> str:
    with closing(connect(folder.ledger)) as ledger:
        questions = sum(not g.has_error for g in read_groups(ledger, f"heldout/{BASE}"))
        examples = {r.round: _examples(ledger, folder, r) for r in summary.rounds}
    result = words.tell_result(summary, planned=settings["rounds"], questions=questions)
    template = _environment().get_template("report.html.j2")
    return template.render(
        summary=summary,
        folder=folder.path.name,
        result=result,
        cautions=words.tell_cautions(summary),
        panels=draw_curves(summary),
        bars=charts.stack_bars(_phases(summary)),
        examples=examples,
        longest_answer=_longest_answer(examples),
        confidence=settings["gate"]["confidence"],
        recipe=to_recipe(settings),
    )


def _environment() -> Environment:
    environment = page_environment(Path(__file__).parent)
    environment.globals["charts"] = charts
    named = (decimal, span, share, duration, tiny, count)
    environment.filters |= {function.__name__: function for function in (*named, shorten)}
    return environment


def _examples(ledger: sqlite3.Connection, folder: RunFolder, played: RoundSummary) -> list[Example]:
    pairs = list(read_pairs(folder.round(played.round) / "pairs.jsonl"))
    return pick_examples(read_groups(ledger, f"round/{played.round}"), pairs)


def _longest_answer(examples: Mapping[int, list[Example]]) -> int:
    shown = sum(len(example.answers) for group in examples.values() for example in group)
    return min(LONGEST_ANSWER, EXAMPLE_CHARACTERS // max(shown, 1))


def _phases(summary: Summary) -> dict[str, dict[str, float]]:
    """Seconds by row and phase; what no finished round took went into preparation."""
    rounds = {
        f"round {played.round}": played.phase_seconds.model_dump(exclude={"total"})
        for played in summary.rounds
    }
    rest = summary.seconds - sum(sum(phases.values()) for phases in rounds.values())
    return {PREPARATION: {PREPARATION: max(rest, 0.0)}, **rounds}


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))

"""The tables and the page, of results made by hand."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.before_after.page import render, write_page
from benchmarks.before_after.report import markdown, tables
from benchmarks.before_after.results import BeforeAfterResults
from foundation.errors import JobError


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.labels: list[str] = []
        self.addresses: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, found.get("class", "")))
        self.labels.append(found.get("aria-label", ""))
        self.addresses += [found[name] for name in ("src", "href") if name in found]

    def handle_data(self, data: str) -> None:
        if text := " ".join(data.split()):
            self.words.append(text)


def changed(kind: str, measure: str, before: float, after: float, outcome: str | None) -> Any:
    apart = after - before
    return {
        "kind": kind,
        "mode": "greedy",
        "measure": measure,
        "before": {"score": before, "n": 40, "ci95": [before, before]},
        "after": {"score": after, "n": 40, "ci95": [after, after]},
        "difference": {"score": apart, "ci95": [apart - 0.02, apart + 0.02], "p": 0.0001},
        "n": 40,
        "outcome": outcome,
    }


def made(**changes: Any) -> BeforeAfterResults:
    content = {
        "run": "quickstart",
        "before": "base",
        "after": "r3",
        "suites": {
            "clinic world, greedy": changed("world", "gold", 0.5, 0.8, "gain"),
            "med_mcqa, greedy": changed("medical", "accuracy", 0.4, 0.41, "unclear"),
            "everyday, greedy": changed("general", "accuracy", 0.6, 0.5, "loss"),
        },
        "averages": {},
        "manner": {
            "clinic world, greedy": {
                "length_tokens": changed("world", "length_tokens", 50, 60, None)
            }
        },
        "verdict": ["gain: clinic world, greedy", "alignment tax: everyday"],
        "settings": {"run": {"gold": [0.45, 0.75]}, "seed": 0},
        "partial": False,
    }
    return BeforeAfterResults.model_validate(content | changes, strict=False)


def test_general_ability_has_a_table_of_its_own() -> None:
    world, medical, general, manner = tables(made())
    assert [row[0] for row in general.rows] == ["everyday, greedy"]
    assert general.rows[0] == (
        *("everyday, greedy", "accuracy, %", "60.0", "50.0", "−10.0", "[−12.0, −8.0]"),
        *("< 0.001", "▼ loss", "40"),
    )
    assert medical.rows[0][-2] == "unclear"
    assert world.notes == (
        "The run's own summary, on the draws by which its gate decided: gold 45.0 before, 75.0"
        " after.",
    )
    assert manner.rows[0][1:5] == ("tokens", "50.0", "60.0", "+10.0")


def test_an_average_stands_above_its_suites() -> None:
    average = changed("medical", "accuracy", 0.3, 0.4, "gain")
    _, medical, *_ = tables(made(averages={"medical, greedy": average}))
    assert [row[0] for row in medical.rows] == ["Average, greedy", "med_mcqa, greedy"]


def test_markdown_begins_with_the_verdict() -> None:
    text = markdown(made(partial=True, partial_reasons=["m: 3 questions failed"]))
    assert text.startswith("## quickstart: r3 against base\n\n- gain: clinic world, greedy\n")
    assert "- Partial: m: 3 questions failed\n" in text
    assert text.index("### The run's own world") < text.index("### General ability")


def test_gains_and_losses_are_told_apart_without_colour() -> None:
    page = Page(render(made()))
    assert ("path", "gain") in page.tags
    assert ("path", "loss") in page.tags
    assert ("circle", "unclear") in page.tags
    assert {"▲ gain", "▼ loss", "unclear"} <= set(page.words)
    assert "everyday, greedy: accuracy −10.0 [−12.0, −8.0], loss" in page.labels


def test_the_page_asks_nothing_from_anywhere_and_runs_nothing() -> None:
    page = Page(render(made()))
    assert page.addresses == ["data:,"]
    tags = {tag for tag, _ in page.tags}
    assert {"script", "img", "iframe", "object", "link"} & tags == {"link"}
    assert "default-src 'none'" in render(made())


def test_names_are_shown_and_not_run() -> None:
    name = "<script>alert(1)</script>"
    content = render(made(run=name))
    assert "<script>" not in content
    assert f"{name}: r3 against base" in Page(content).words


def test_what_is_partial_is_said_before_the_numbers() -> None:
    page = Page(render(made(partial=True, partial_reasons=["m: 3 questions failed"])))
    place = page.words.index("m: 3 questions failed")
    assert place < page.words.index("The run's own world")


def test_nothing_measured_is_a_page_as_well() -> None:
    page = Page(render(made(suites={}, manner={}, verdict=[], partial=True)))
    assert "partial" in page.words
    assert "What decided the numbers" in page.words


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be written"):
        write_page(tmp_path / "none" / "report.html", made())

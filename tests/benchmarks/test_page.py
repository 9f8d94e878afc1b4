from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.page import doubts, flatten, render, write_page
from benchmarks.page.drawings import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Reference,
    Scale,
    Strip,
    draw_chart,
    fit_scale,
    reliability,
)
from benchmarks.results import Controls, Counts, Results
from benchmarks.suites import SUITES
from foundation.errors import JobError
from tests.benchmarks.evaluations import PUBLISHED, calibration, damaged, medical, score

shares = st.floats(0, 1)


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if text:
            self.words.append(text)
            if self.tags[-1] == "h2":
                self.headings.append(text)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def nothing() -> Results:
    return Results(
        benchmark="pairs",
        model="default",
        overall=None,
        overall_ci95=None,
        sections={},
        subsets={},
        controls=Controls(),
        counts=Counts(groups=3, scored=0, failed=3),
        fingerprint=None,
        settings={},
        partial=True,
        partial_reasons=("no group is scored",),
    )


def test_the_page_shows_everything_that_is_in_the_results() -> None:
    page = Page(render(medical(), PUBLISHED))
    assert page.headings[:5] == [
        "Scores beside published systems",
        "Controls",
        "By length",
        "Calibration",
        "What decided the numbers",
    ]
    for shown in (
        "76.2 %",
        "95 % interval [73.1, 79.2]",
        "complete",
        "UltraMedRM-8B",
        "80.53",
        "(1) UltraMedical, arXiv 2406.03949",
        "A rule that prefers the longer candidate: 60.3 %",
        "Under another question",
        "at most half as long",
        "4.1 × 10⁻⁶",
        "endpoint.url",
        "http://127.0.0.1:8100",
        "5f0c91d2a4b7e833",
    ):
        assert shown in page.text, shown


def test_the_page_asks_nothing_from_anywhere_and_runs_nothing() -> None:
    page = Page(render(medical(), PUBLISHED))
    assert page.addresses == ["data:,"]
    assert {"script", "img", "iframe", "object", "link"} & set(page.tags) == {"link"}
    assert "default-src 'none'" in render(medical())


def test_a_partial_result_says_so_before_its_numbers() -> None:
    words = Page(render(damaged())).words
    place = words.index("Partial: read these numbers with this in mind.")
    assert words[place + 1 : place + 3] == [
        "2 groups have no reward for every candidate (timeout 2)",
        "missing: Chat Hard",
    ]
    assert place < words.index("Scores")


def test_names_are_shown_and_not_run() -> None:
    content = render(damaged(), PUBLISHED)
    assert "<b>bold</b>" not in content
    assert "<b>bold</b> | default" in Page(content).text


def test_what_was_not_measured_has_no_section() -> None:
    assert Page(render(damaged())).headings == [
        "Scores",
        "Subsets",
        "Under other published rules",
        "What decided the numbers",
    ]


def test_an_evaluation_without_any_score_has_a_page() -> None:
    page = Page(render(nothing()))
    assert "No score: nothing was scored." in page.text
    assert "no group is scored" in page.text


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_a_page_beside_its_published_systems(name: str) -> None:
    from benchmarks.published import published

    results = medical().model_copy(update={"benchmark": name})
    text = Page(render(results, published(name))).text
    assert all(row.system in text for row in published(name))


def test_the_same_results_give_the_same_page() -> None:
    assert render(medical(), PUBLISHED) == render(medical(), PUBLISHED)


def test_no_identity_is_given_twice() -> None:
    found = re.findall(r' id="([^"]+)"', render(medical(), PUBLISHED))
    assert len(found) == len(set(found))


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", medical(), PUBLISHED)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(JobError, match="cannot be written"):
        write_page(tmp_path / "none" / "report.html", medical())


def test_a_score_that_its_controls_reach_is_doubted() -> None:
    assert doubts(medical()) == ()
    found = medical().controls.model_copy(
        update={"longer_wins": score(0.74, 777), "shuffled_question": score(0.75, 777)}
    )
    assert doubts(medical().model_copy(update={"controls": found})) == (
        "The score is not clearly above that of preferring the longer answer: 74.0 %.",
        "The score is hardly lower when the question is another one: 75.0 %.",
    )


def test_settings_are_told_by_their_whole_names() -> None:
    settings = {"a": {"b": {"c": 1}, "d": []}, "e": None, "f": ["x", "y"], "g": {}}
    assert dict(flatten(settings)) == {"a.b.c": "1", "a.d": "–", "e": "–", "f": "x, y", "g": "{}"}


@given(st.lists(shares))
def test_a_scale_holds_everything_on_at_most_six_ticks(values: list[float]) -> None:
    scale = fit_scale(values)
    assert all(0 <= scale.at(value) <= 100 for value in values)
    assert 2 <= len(scale.ticks) <= 6
    assert scale.high - scale.low >= 20
    assert scale.high <= 100


@given(shares, shares)
def test_a_scale_keeps_the_order(one: float, other: float) -> None:
    scale = fit_scale([one, other])
    if one <= other:
        assert scale.at(one) <= scale.at(other)


def test_close_scores_are_not_drawn_far_apart() -> None:
    assert fit_scale([0.93, 0.94]) == Scale(80, 100)
    assert fit_scale([0.99, 1.0]) == Scale(80, 100)
    assert fit_scale([0.0, 0.01]) == Scale(0, 20)


def test_a_score_above_one_is_on_the_scale() -> None:
    assert fit_scale([0.5, 1.003]) == Scale(50, 110)


def test_a_row_has_its_dot_its_interval_and_the_others() -> None:
    strip = Strip("Easy", 0.75, (0.5, 1.0), 20, (("one", 0.6), ("one", 0.7)))
    chart = draw_chart([strip, Strip("Hard", None, None, 0)])
    assert [tick.title for tick in chart.ticks] == ["50", "60", "70", "80", "90", "100"]
    row, empty = chart.rows
    assert (row.dot, row.whisker) == (50.0, (2.5, 97.5))
    assert [mark.title for mark in row.others] == ["one: 60.0", "one: 70.0"]
    assert row.description == "Easy: 75.0 [50.0, 100.0]"
    assert (empty.dot, empty.whisker, empty.value) == (None, None, "–")


def test_a_reference_is_drawn_in_its_rows_only() -> None:
    strips = [Strip("Overall", 0.75, None, 9), Strip("Easy", 0.8, None, 5)]
    chart = draw_chart(strips, [Reference("rule", 0.6, ("Overall",)), Reference("none", None)])
    assert [len(row.lines) for row in chart.rows] == [1, 0]
    assert chart.references == ("rule: 60.0 %",)


def test_bins_lie_on_the_diagonal_where_promises_are_kept() -> None:
    one = calibration()
    kept = one.bins[0].model_copy(update={"mean_probability": 0.525, "accuracy": 0.525})
    diagram = reliability(one.model_copy(update={"bins": (kept, *one.bins[1:])}))
    assert diagram.bins[0].y == diagram.bins[0].diagonal
    assert len(diagram.bins) == 9
    assert all(LEFT <= dot.x <= RIGHT and TOP <= dot.y <= BOTTOM for dot in diagram.bins)
    assert max(diagram.bins, key=lambda dot: dot.radius).title.endswith("144 groups")


def test_a_bin_that_is_always_wrong_is_on_the_diagram() -> None:
    wrong = calibration().bins[0].model_copy(update={"accuracy": 0.0})
    diagram = reliability(calibration().model_copy(update={"bins": (wrong,)}))
    assert diagram.bins[0].y == BOTTOM
    assert diagram.rows[0].title == "0"

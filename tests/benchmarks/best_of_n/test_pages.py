"""Tables and page: what a reader of the results sees."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.best_of_n.curves import METHODS, Method
from benchmarks.best_of_n.drawings import APART, BOTTOM, LEFT, RIGHT, TOP, draw_panel, spread
from benchmarks.best_of_n.page import render, write_page
from benchmarks.best_of_n.report import tables
from benchmarks.best_of_n.results import BestOfNResults, Curves, Difference, Point
from benchmarks.results import Counts, Score
from benchmarks.tables import to_markdown

heights = st.lists(
    st.tuples(st.text(max_size=3), st.floats(0, 300)), unique_by=lambda each: each[0], max_size=8
)


def curves(*, greedy: float | None = None, has_votes: bool = True) -> Curves:
    ends: dict[Method, float] = {
        "reward": 0.7,
        "vote": 0.65,
        "weighted_vote": 0.72,
        "random": 0.5,
        "oracle": 0.9,
    }
    shown = [m for m in METHODS if has_votes or "vote" not in m]
    apart = Difference(difference=0.05, ci95=(-0.01, 0.11), p=0.09)
    return Curves(
        questions=1_200,
        curves={
            method: tuple(
                Point(samples=n, score=score, ci95=(score - 0.03, score + 0.03))
                for n, score in ((1, 0.5), (2, (0.5 + ends[method]) / 2), (4, ends[method]))
            )
            for method in shown
        },
        reward_minus_vote=apart if has_votes else None,
        reward_minus_random=Difference(difference=0.2, ci95=(0.1, 0.3), p=0.0001),
        greedy=None if greedy is None else Score(score=greedy, n=1_200, ci95=(0.4, 0.6)),
    )


def results(overall: Curves | None, model: str = "r3", **sections: Curves) -> BestOfNResults:
    return BestOfNResults(
        benchmark="best-of-n",
        model=model,
        reward_model="rm",
        fingerprint=None,
        measure="accuracy",
        samples=4,
        overall=overall,
        sections=sections,
        counts=Counts(groups=10, scored=9, failed=1, errors={"too_long": 1}),
        settings={"suites": {"s": {"source": "dev.json"}}},
        partial=True,
        partial_reasons=("1 questions failed and are in no score",),
    )


class Reader(HTMLParser):
    """Finds what never is closed, and every id."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closes itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@given(heights)
def test_names_of_curves_keep_their_order_and_their_distance(
    wanted: list[tuple[str, float]],
) -> None:
    found = spread(wanted)
    assert set(found) == {name for name, _ in wanted}
    order = sorted(wanted, key=lambda each: each[1])
    placed = [found[name] for name, _ in order]
    gaps = (b - a for a, b in pairwise(placed))
    assert all(gap >= APART - 0.11 for gap in gaps)  # rounded to tenths


def test_names_that_have_room_stay_at_the_ends_of_their_curves() -> None:
    assert spread([("a", 10.0), ("b", 100.0)]) == {"a": 10.0, "b": 100.0}
    assert spread([("a", 50.0), ("b", 50.0)], apart=10) == {"a": 45.0, "b": 55.0}


def test_doublings_are_evenly_apart_and_every_curve_is_inside() -> None:
    panel = draw_panel(curves(greedy=0.1))
    assert [tick.label for tick in panel.columns] == ["1", "2", "4"]
    first, middle, last = (tick.at for tick in panel.columns)
    assert (first, middle, last) == (LEFT, (LEFT + RIGHT) / 2, RIGHT)
    assert panel.lines[-1].method == "reward"
    for line in panel.lines:
        assert all(TOP <= dot.high <= dot.y <= dot.low <= BOTTOM for dot in line.dots)
    assert panel.greedy is not None
    assert TOP <= panel.greedy.at <= BOTTOM
    assert "reward: 50.0 of 1, 60.0 of 2, 70.0 of 4" in panel.description


def test_the_tables_have_every_curve_every_section_and_both_gains() -> None:
    found = list(tables(results(curves(greedy=0.5), med_qa=curves(), anatomy=curves())))
    curve, ends, gains = found
    assert curve.columns == ("N", "reward", "vote", "weighted vote", "random", "oracle")
    assert curve.rows[2][:3] == ("4", "70.0 [67.0, 73.0]", "65.0 [62.0, 68.0]")
    assert curve.notes == (
        "Greedy, one answer: 50.0 [40.0, 60.0]",
        "Partial: 1 questions failed and are in no score",
    )
    assert [row[0] for row in ends.rows] == ["Overall", "med_qa", "anatomy"]
    assert [row[-2] for row in ends.rows] == ["50.0", "–", "–"]
    assert gains.rows[0] == (
        "Overall", "+5.0", "[−1.0, 11.0]", "0.0900", "+20.0", "[10.0, 30.0]", "0.0001", "1,200",
    )  # fmt: skip
    assert all("| N |" in to_markdown(table) for table in found[:1])


def test_a_single_section_is_told_once_and_votes_only_where_there_are_any() -> None:
    only = curves(has_votes=False)
    curve, gains = tables(results(only, clinic=only))
    assert curve.columns == ("N", "reward", "random", "oracle")
    assert gains.columns[1:] == ("reward − random", "95 % interval", "p", "questions")
    page = render(results(only, clinic=only))
    assert page.count("<figure") == 1
    assert "answer that most" not in page


def test_the_page_is_whole_asks_nothing_from_anywhere_and_shows_names_as_text() -> None:
    page = render(results(curves(greedy=0.5), "<b>r3</b>", med_qa=curves(), anatomy=curves()))
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert "<b>r3" not in page
    assert "<script" not in page
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", page) == ["data:,"]
    assert page.count("<figure") == 3
    assert "+5.0 points" in page


def test_results_without_a_score_have_a_page_and_a_table_that_say_so(tmp_path: Path) -> None:
    [table] = tables(results(None))
    assert "No score" in table.notes[0]
    write_page(tmp_path / "report.html", results(None))
    assert "No score" in (tmp_path / "report.html").read_text(encoding="utf-8")

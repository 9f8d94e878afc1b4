from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console

from benchmarks.published import PublishedRow
from benchmarks.results import Controls
from benchmarks.tables import (
    Table,
    asked_again,
    beside,
    bracket,
    by_length,
    calibration,
    controls,
    overview,
    percent,
    ranked,
    sources,
    tables_of,
    to_markdown,
    to_rich,
)
from tests.benchmarks.evaluations import PUBLISHED, damaged, medical


def printed(table: Table) -> str:
    stream = StringIO()
    Console(file=stream, width=120, color_system=None).print(to_rich(table))
    return stream.getvalue()


def test_scores_are_per_cent_with_their_intervals() -> None:
    table = overview(medical())
    assert table.rows[:2] == (
        ("Overall", "76.2", "[73.1, 79.2]", "777"),
        ("Easy", "91.2", "[87.2, 95.2]", "238"),
    )
    assert table.notes == ()


def test_what_is_not_there_is_a_dash() -> None:
    assert overview(damaged()).rows[2] == ("Safety", "–", "–", "0")
    assert (percent(None), bracket(None)) == ("–",) * 2


def test_a_partial_result_says_why() -> None:
    assert overview(damaged()).notes == (
        "Partial: 2 groups have no reward for every candidate (timeout 2)",
        "Partial: missing: Chat Hard",
    )


def test_published_systems_stand_below_ours_from_the_best_down() -> None:
    table = beside(medical(), PUBLISHED)
    assert table.columns == ("system", "Easy", "Hard", "Length", "Human", "Overall", "source")
    assert table.rows[:2] == (
        ("org/our-medical-rm", "91.20", "70.40", "68.90", "74.20", "76.18", ""),
        ("UltraMedRM-8B", "94.12", "73.47", "77.22", "77.30", "80.53", "1"),
    )
    assert [row[0] for row in table.rows[2:]] == [
        "pair-preference-model-LLaMA3-8B",
        "FsfairX-LLaMA3-RM-v0.1",
        "Without parts",
    ]
    assert table.rows[-1][1:] == ("–", "–", "–", "–", "–", "2")
    assert table.strong == {0}


def test_figures_have_the_decimals_that_they_were_printed_with() -> None:
    one, two = (
        PublishedRow("one", "s", {"Easy": 95.8}, 87.0),
        PublishedRow("two", "s", {"Easy": 90.34}, 75.1),
    )
    rows = beside(medical(), [one, two]).rows
    assert (rows[1][-2], rows[2][-2], rows[0][-2]) == ("87.0", "75.10", "76.18")
    assert beside(medical(), [one]).rows[0][-2] == "76.2"


def test_a_column_that_only_others_have_is_shown() -> None:
    row = PublishedRow("x", "s", {"Chat": 96.9, "Prior Sets": 74.3}, 89.0)
    table = beside(damaged(), [row])
    assert table.columns == ("system", "Chat", "Safety", "Prior Sets", "Overall", "source")
    assert table.rows[1] == ("x", "96.9", "–", "74.3", "89.0", "1")
    assert table.rows[0][3] == "–"


def test_sources_and_notes_of_figures_are_told() -> None:
    again = replace(PUBLISHED[2], source="another table")
    assert sources([*PUBLISHED, again]) == (
        "(1) UltraMedical, arXiv 2406.03949",
        "(2) a leaderboard",
        "(3) another table",
        "Pairwise: pair-preference-model-LLaMA3-8B (1), pair-preference-model-LLaMA3-8B (3)",
    )


def test_systems_without_an_overall_score_come_last() -> None:
    assert [row.overall for row in ranked(PUBLISHED)] == [80.53, 78.48, 76.03, None]


def test_controls_stand_below_the_models_own_score() -> None:
    rows = controls(medical()).rows
    assert [row[:2] for row in rows] == [
        ("org/our-medical-rm", "76.2"),
        ("The longer candidate wins", "60.3"),
        ("Under another question", "56.1"),
        ("Under an empty question", "58.8"),
    ]
    assert controls(damaged()).rows == ()


def test_asking_again_tells_the_largest_change() -> None:
    assert asked_again(medical()).rows == (
        ("Candidates in the opposite order", "0", "0", "777"),
        ("Each group alone", "4.1\xa0×\xa010⁻⁶", "1", "64"),
    )


def test_lengths_are_told_in_words() -> None:
    rows = by_length(medical()).rows
    assert rows[0] == ("at most half as long", "38.1", "21")
    assert rows[-1] == ("at least twice as long", "–", "0")


def test_calibration_shows_the_bins_that_are_filled() -> None:
    table = calibration(medical())
    assert table.rows[0] == ("50 to 55", "52.1", "55.0", "88")
    assert len(table.rows) == 9
    assert table.notes == (
        "expected error 4.1, log loss 0.512, Brier score 0.169, best temperature 1.31",
    )


def test_everything_that_is_there_has_a_table() -> None:
    assert [table.title for table in tables_of(medical(), PUBLISHED)] == [
        "medical-rewardbench: org/our-medical-rm",
        "Beside published systems",
        "Controls",
        "Asked again",
        "By length",
        "Calibration",
    ]
    assert [table.title for table in tables_of(damaged())][1:] == ["Subsets", "Under other rules"]


def test_a_terminal_shows_names_as_they_are() -> None:
    results = medical().model_copy(update={"model": "[bold]x[/bold]", "controls": Controls()})
    shown = printed(overview(results))
    assert "medical-rewardbench: [bold]x[/bold]" in shown
    assert "[73.1, 79.2]" in shown


def test_a_terminal_shows_the_notes_below() -> None:
    assert "Partial: missing: Chat Hard" in printed(overview(damaged()))


def test_markdown_is_a_heading_a_table_and_notes() -> None:
    table = Table(
        "Scores", ("", "score"), (("Overall", "76.2"), ("a", "–")), ("A note.",), frozenset({0})
    )
    assert to_markdown(table) == (
        "### Scores\n\n"
        "|   | score |\n"
        "| :-- | --: |\n"
        "| **Overall** | **76.2** |\n"
        "| a | – |\n\n"
        "A note.\n"
    )


def test_markdown_does_not_read_names_as_markup() -> None:
    lines = to_markdown(beside(damaged(), PUBLISHED[:1])).splitlines()
    assert lines[4].startswith(r"| **\<b>bold\</b> \| default** |")
    assert lines[4].endswith("|  |"), "nothing is not set in bold"

"""The page as a whole: complete, self-contained, and safe whatever a policy writes."""

from __future__ import annotations

import json
import re
import tomllib
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loop.config import Recipe
from loop.errors import RunError
from loop.folder import RunFolder
from loop.ledger import Ledger
from loop.report import write_report
from loop.summary import Summary
from tests.loop.report.runs import NOWHERE, play, skip, sum_up, without_gold, write_run

PLAYED = sum_up([play(1, step=1), play(2, step=1.6, decision="refused"), play(3, step=2.7)])
VOID = {"meta", "link", "line", "circle", "rect", "path"}


class Elements(HTMLParser):
    """Checks that elements nest, and collects their names and ids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.ids: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def render(tmp_path: Path, summary: Summary, *, text: str = "") -> str:
    return write_report(write_run(tmp_path / "run", summary, text=text)).read_text("utf-8")


@pytest.mark.parametrize(
    "summary",
    [
        pytest.param(PLAYED, id="completed"),
        pytest.param(sum_up(status="running"), id="no round yet"),
        pytest.param(sum_up(status="failed", baseline=NOWHERE), id="failed before the base"),
        pytest.param(sum_up([skip(1), skip(2)], status="failed"), id="nothing trained"),
        pytest.param(without_gold(PLAYED), id="no gold"),
        pytest.param(sum_up([play(1, step=1)], trained_here=False), id="given reward model"),
    ],
)
def test_every_state_of_a_run_gives_a_well_formed_page(tmp_path: Path, summary: Summary) -> None:
    page = render(tmp_path, summary)
    elements = Elements(page)
    assert len(set(elements.ids)) == len(elements.ids)
    assert summary.status in page
    assert "None" not in page
    assert "nan" not in re.findall(r"\bnan\b", page)


def test_the_page_is_one_small_file_that_asks_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = render(tmp_path, PLAYED)
    assert len(page.encode()) < 200_000
    assert "script" not in Elements(page).names
    assert not re.search(r"https?://|@import|url\(|\bsrc=", page)
    assert "default-src 'none'" in page


def test_what_a_policy_wrote_is_text_and_nothing_else(tmp_path: Path) -> None:
    attack = "</div></table><script>alert(1)</script><img onerror=alert(1)>"
    page = render(tmp_path, PLAYED, text=attack)
    assert attack not in page
    assert attack in unescape(page)
    assert not {"script", "img"} & set(Elements(page).names)


def test_a_page_stays_small_when_answers_are_long(tmp_path: Path) -> None:
    rounds = [play(number, step=number / 4) for number in range(1, 21)]
    page = render(tmp_path, sum_up(rounds), text="word " * 4_000)
    assert len(page.encode()) < 1_000_000
    assert "more characters" in page


def test_same_folder_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", PLAYED)
    before = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == before
    assert not list(folder.path.glob("*.partial"))


def test_a_run_that_goes_on_can_be_looked_at(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", PLAYED)
    with Ledger(folder.path) as ledger:
        ledger.set_fact("fingerprint", "f")
        assert write_report(folder).is_file()


def test_the_held_out_questions_are_counted(tmp_path: Path) -> None:
    assert "on 40\N{NO-BREAK SPACE}held-out questions" in render(tmp_path, PLAYED)


def test_chosen_and_rejected_are_named_in_words(tmp_path: Path) -> None:
    page = render(tmp_path, PLAYED)
    for part in ("chosen", "rejected", "truncated", "duplicate"):
        assert f'<span class="part">{part}</span>' in page


def test_a_refused_round_says_why_and_draws_a_hollow_mark(tmp_path: Path) -> None:
    page = render(tmp_path, PLAYED)
    assert PLAYED.rounds[1].gate.reason in page
    assert page.count('<g class="mark refused">') == 5


def test_a_round_without_pairs_says_so(tmp_path: Path) -> None:
    page = render(tmp_path, sum_up([skip(1)], status="running"))
    assert "No pair was built in this round." in page
    assert "nothing was trained" in page


def test_a_world_without_truth_says_so(tmp_path: Path) -> None:
    assert "This world knows no truth to measure against." in render(tmp_path, without_gold(PLAYED))


def test_a_given_reward_model_has_no_accuracy(tmp_path: Path) -> None:
    page = render(tmp_path, sum_up([play(1, step=1)], trained_here=False))
    assert "It was not trained in this run" in page
    assert "Longer answer wins" not in page


@pytest.mark.parametrize("status", ["running", "failed"])
def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path, status: str) -> None:
    page = render(tmp_path, PLAYED.model_copy(update={"status": status}))
    assert "medpref align quickstart.toml --run-dir run --resume" in page


def test_the_settings_on_the_page_are_the_recipe_of_the_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", PLAYED)
    page = write_report(folder).read_text("utf-8")
    [shown] = re.findall(r"<code>(name = .*?)</code>", page, flags=re.DOTALL)
    recipe = Recipe.model_validate(tomllib.loads(unescape(shown)))
    assert recipe == Recipe.model_validate(json.loads(folder.config.read_text("utf-8")))


def test_failed_requests_are_alarming(tmp_path: Path) -> None:
    played = play(1, step=1)
    played.deploy.failed_requests = 2
    page = render(tmp_path, sum_up([played]))
    assert "aside alarming" in page
    assert "failed while a policy was being redeployed" in page


def test_a_folder_without_a_run_is_one_line_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"summary\.json: no such file; give the folder"):
        write_report(RunFolder(tmp_path))


def test_a_summary_of_another_shape_is_one_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", PLAYED)
    folder.summary.write_text('{"run": "quickstart"}', encoding="utf-8")
    with pytest.raises(RunError, match="not a summary of this version: status: Field required"):
        write_report(folder)

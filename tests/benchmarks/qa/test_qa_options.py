"""What the command may be asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.qa.job import main
from benchmarks.qa.options import QaConfig, SuiteSource
from foundation.errors import UserError

URL = "http://127.0.0.1:9"


def config(*suites: str) -> QaConfig:
    return QaConfig.model_validate({"server": URL, "suites": list(suites)})


def test_suites_are_named_sources_with_a_format_behind_a_colon() -> None:
    found = config("med_qa=data/test.jsonl", "m=hub/name:mirage", "c=C:/odd:name.json").sources
    assert found == [
        SuiteSource("med_qa", "data/test.jsonl", None),
        SuiteSource("m", "hub/name", "mirage"),
        SuiteSource("c", "C:/odd:name.json", None),
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--suite", "test.jsonl"], "suites: .*--suite test.jsonl: write it as NAME=SOURCE"),
        (["--suite", "a/b=x"], "write it as NAME=SOURCE"),
        (["--suite", "a=x", "--suite", "a=y"], "a is there already"),
        (["--suite", "a=x", "--modes", "greedy,best"], "modes.*best"),
        (["--suite", "a=x", "--top-p", "0"], "top_p: '0'"),
        (["--suite", "a=gone.json"], "gone.json: no such file"),
    ],
)
def test_what_does_not_fit_is_one_line(flags: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        main(["--server", URL, *flags])
    assert "\n" not in str(caught.value)


def test_nobody_is_asked_where_no_server_answers(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text('{"1": {"question": "q", "options": {"A": "x", "B": "y"}, "answer": "A"}}')
    output = tmp_path / "out"
    with pytest.raises(UserError, match=r"--server: http://127\.0\.0\.1:9: nobody answers"):
        main(["--server", URL, "--suite", f"s={path}", "--output", str(output)])
    assert not output.exists()


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "medpref bench qa --server http://127.0.0.1:8000 --suite" in shown
    assert "--suite NAME=SOURCE[:FORMAT]" in shown

"""The job with judge and policy in memory: what is scored, kept, counted and gone on with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.long_form.answers import digest_of, read_answers
from benchmarks.long_form.job import evaluate, main
from benchmarks.long_form.options import LongFormConfig
from benchmarks.long_form.report import beside, tables
from benchmarks.long_form.results import LongFormResults, read_long_form_results
from benchmarks.published import PublishedRow
from corpora.errors import CorpusError
from corpora.streams import stop_at_bad
from foundation.errors import UserError
from foundation.settings import SettingsError, check
from tests.benchmarks.long_form.fakes import JUDGE, POLICY, RECORDS, Servers, answers, data


def config(folder: Path, **changes: Any) -> LongFormConfig:
    given = {"judge": JUDGE, "judge_model": "j", "retry_seconds": 0, "output": folder / "out"}
    given |= {} if "answers" in changes else {"policy": POLICY}
    return check(LongFormConfig, given | changes, source="command line")


def run(
    given: LongFormConfig,
    source: str,
    servers: Servers,
    progress: list[tuple[str, int, int]] | None = None,
) -> tuple[LongFormResults, str | None]:
    seen = [] if progress is None else progress
    return asyncio.run(
        evaluate(given, source, lambda *told: seen.append(told), transport=servers.transport)
    )


def lines(given: LongFormConfig) -> list[dict[str, Any]]:
    journal = (given.folder / "judged.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in journal.splitlines()]


def test_a_policys_answers_are_judged_and_scored(tmp_path: Path) -> None:
    servers, progress, given = Servers(), list[tuple[str, int, int]](), config(tmp_path)
    results, failure = run(given, data(tmp_path), servers, progress)
    # It says rest: 1 of 2, 1 of 1 and 0 of 2 must-haves; it contradicts 0 of 3, 1 of 2 and 1 of 2.
    assert (failure, results.partial) == (None, False)
    assert results.completeness.score == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert results.hallucination.score == pytest.approx(2 / 3)
    assert results.hallucination_share.score == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)
    assert [score.n for score in results.scores.values()] == [3, 3, 3]
    assert all(score.ci95 for score in results.scores.values())
    assert results == read_long_form_results(given.folder)
    assert {(body["n"], body["temperature"], body["top_p"]) for body in servers.answered} == {
        (1, 0.0, 1.0)
    }
    assert len(servers.judged) == (2 + 3) + (1 + 2) + (2 + 2)
    assert {body["model"] for body in servers.judged} == {"j"}
    assert lines(given)[0]["answer"] == "rest, I think"
    assert (progress[0], progress[-1]) == (("judged", 0, 3), ("judged", 3, 3))
    assert "| **completeness, %** | **50.0** |" in (given.folder / "table.md").read_text()


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_files_answers_are_judged_without_a_policy(tmp_path: Path, suffix: str) -> None:
    path = answers(tmp_path)
    if suffix == ".jsonl":
        records = json.loads(path.read_text(encoding="utf-8"))
        path = path.with_suffix(suffix)
        path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    servers = Servers()
    results, _ = run(config(tmp_path, answers=path), data(tmp_path), servers)
    assert results.model == "results"
    assert results.completeness.score == pytest.approx(0.5)
    assert servers.answered == []
    assert "version" not in results.settings
    assert len(results.settings["answers"]) == 16


def test_a_question_without_an_answer_fails_and_is_in_no_score(tmp_path: Path) -> None:
    given = config(tmp_path, answers=answers(tmp_path, count=2))
    results, _ = run(given, data(tmp_path), Servers())
    assert results.completeness.score == pytest.approx((1 / 2 + 1) / 2)
    assert (results.counts.scored, results.counts.failed) == (2, 1)
    assert results.counts.errors == {"no_answer": 1}
    assert results.partial_reasons == (
        "1 question failed and is in no score; the first: no_answer",
    )


def test_a_verdict_that_cannot_be_read_or_is_refused_fails_its_question_until_it_is_given(
    tmp_path: Path,
) -> None:
    servers, given, source = Servers(), config(tmp_path), data(tmp_path)
    good = servers.judge

    def moody(prompt: str) -> Any:
        if "q0" in prompt and "say ice" in prompt:
            return "Hard to say."
        return httpx.Response(400) if "q2" in prompt else good(prompt)

    servers.judge = moody
    results, failure = run(given, source, servers)
    assert failure is None
    assert (results.counts.scored, results.counts.failed) == (1, 2)
    assert results.counts.errors == {"unreadable_verdict": 1, "judge_failed": 4}
    assert results.completeness.score == 1.0

    again = Servers()
    results, _ = run(given, source, again)
    assert (results.counts.scored, results.partial) == (3, False)
    assert results.counts.errors == {}
    assert not any("q1" in body["messages"][0]["content"] for body in again.judged)


def test_a_judge_that_dies_half_way_leaves_what_was_judged(tmp_path: Path) -> None:
    servers, given, source = Servers(), config(tmp_path, concurrency=1), data(tmp_path)
    good = servers.judge
    servers.judge = lambda prompt: httpx.ConnectError("refused") if "q1" in prompt else good(prompt)
    results, failure = run(given, source, servers)
    assert failure is not None
    assert "refused" in failure
    assert (results.counts.scored, results.completeness.score) == (1, 0.5)
    assert results.partial_reasons == (failure, "questions not judged: 2")
    assert read_long_form_results(given.folder).partial

    again = Servers()
    results, failure = run(given, source, again)
    assert (failure, results.partial, len(again.answered)) == (None, False, 2)


def test_a_policy_that_dies_ends_the_job_and_one_that_refuses_does_not(tmp_path: Path) -> None:
    servers, given, source = Servers(), config(tmp_path, concurrency=1), data(tmp_path)
    refusal = httpx.Response(400, json={"error": {"message": "too long"}})
    gone = httpx.Response(503, json={"error": {"message": "dead"}})
    servers.policy = lambda text: refusal if "q0" in text else gone if "q2" in text else None
    results, failure = run(given, source, servers)
    assert failure == "/v1/chat/completions: 503: dead"
    assert (results.counts.scored, results.counts.failed) == (1, 1)
    assert results.counts.errors == {"policy_failed": 1}


def test_answers_that_ran_into_the_limit_are_judged_and_told(tmp_path: Path) -> None:
    servers = Servers()
    servers.finish_reason = "length"
    results, _ = run(config(tmp_path), data(tmp_path), servers)
    assert (results.cut, results.counts.scored) == (3, 3)
    assert "3 answers ran into the limit and were judged as they are" in next(tables(results)).notes

    servers.finish_reason = "abort"
    results, _ = run(config(tmp_path, restart=True), data(tmp_path), servers)
    assert results.counts.errors == {"policy_failed": 3}


def test_a_question_to_which_the_policy_gives_nothing_fails(tmp_path: Path) -> None:
    servers = Servers()
    nothing = httpx.Response(200, json={"prompt_token_ids": [1], "choices": []})
    servers.policy = lambda text: nothing if "q1" in text else None
    results, failure = run(config(tmp_path), data(tmp_path), servers)
    assert (failure, results.counts.scored) == (None, 2)
    assert results.counts.errors == {"policy_failed": 1}


def test_only_the_first_questions_may_be_asked_and_the_others_later(tmp_path: Path) -> None:
    source = data(tmp_path)
    results, _ = run(config(tmp_path, limit=1), source, Servers())
    assert results.partial_reasons == ("the first 1 of 3 questions (--limit)",)
    servers = Servers()
    results, _ = run(config(tmp_path), source, servers)
    assert (len(servers.answered), results.partial) == (2, False)
    results, _ = run(config(tmp_path, limit=2), source, servers)
    assert (results.counts.groups, results.completeness.n) == (2, 2)


def test_nothing_that_decides_the_verdicts_may_change_without_a_restart(tmp_path: Path) -> None:
    source = data(tmp_path)
    run(config(tmp_path), source, Servers())
    with pytest.raises(UserError, match="begun with judge 'j', now it is 'k'"):
        run(config(tmp_path, judge_model="k"), source, Servers())
    with pytest.raises(UserError, match="begun with version 'base', now it is None"):
        run(config(tmp_path, answers=answers(tmp_path)), source, Servers())
    other = data(tmp_path, [RECORDS[0] | {"Must_have": ["say nothing"]}])
    with pytest.raises(UserError, match="begun with questions '"):
        run(config(tmp_path), other, Servers())
    results, _ = run(config(tmp_path, restart=True), other, Servers())
    assert results.completeness.n == 1


def test_bad_records_end_the_job_or_are_counted(tmp_path: Path) -> None:
    source = data(tmp_path, [RECORDS[0], {"Question": "?", "Must_have": []}])
    with pytest.raises(CorpusError, match=r"jsonl:2: Must_have: empty"):
        run(config(tmp_path), source, Servers())
    results, _ = run(config(tmp_path, skip_bad=True), source, Servers())
    assert results.counts.bad_records == 1
    assert results.partial_reasons == ("bad records skipped: 1",)
    nothing = data(tmp_path, [{"Question": "?", "Must_have": []}])
    with pytest.raises(BenchmarkError, match=r"no question to ask \(1 bad records\)"):
        run(config(tmp_path, skip_bad=True), nothing, Servers())


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    given, source = config(tmp_path), data(tmp_path)
    run(given, source, Servers())
    (given.folder / "judged.jsonl").write_text('{"number": 0}\n')
    with pytest.raises(UserError, match=r"judged.jsonl:1: id: .*--restart"):
        run(given, source, Servers())


def test_a_judge_or_policy_that_is_not_there_is_told_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    class Deaf(Servers):
        deaf = ""

        def _respond(self, request: httpx.Request) -> httpx.Response:
            if request.url.host == self.deaf:
                raise httpx.ConnectError("refused")
            return super()._respond(request)

    servers = Deaf()
    for servers.deaf, message in (
        ("judge.test", r"--judge: http://judge.test/v1: nobody answers \(refused\)"),
        ("policy.test", r"--policy: http://policy.test: nobody answers"),
    ):
        with pytest.raises(BenchmarkError, match=message):
            run(config(tmp_path), data(tmp_path), servers)
    assert not (tmp_path / "out").exists()
    assert servers.answered == servers.judged == []


def test_answers_are_found_by_the_text_of_the_question(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    record = {"Question": "What  of\nq0? ", "result": "Rest."}
    path.write_text(json.dumps([record, record]))
    found = read_answers(path, on_bad=stop_at_bad)
    assert found == {"What of q0?": "Rest."}
    assert digest_of(found) != digest_of({"What of q0?": "Tea."})
    path.write_text(json.dumps([record, record | {"result": "Tea."}, {"Question": "?"}]))
    bad: list[CorpusError] = []
    read_answers(path, on_bad=bad.append)
    assert [str(error).partition(": ")[2] for error in bad] == [
        "record 2: Question: answered before, and otherwise; keep one answer",
        "record 3: result: missing; give every record this text",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"policy": None}, "give --policy URL or --answers FILE", id="nobody"),
        pytest.param({"policy": POLICY, "answers": "a.json"}, "give one of them", id="both"),
        pytest.param({"answers": "a.json", "version": "r3"}, "--version: is for --policy", id="v"),
    ],
)
def test_flags_that_do_not_fit_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        config(tmp_path, **changes)


def test_the_table_stands_beside_published_ones(tmp_path: Path) -> None:
    results, _ = run(config(tmp_path, name="mine"), data(tmp_path), Servers())
    scores = {"completeness": 72.42, "hallucination": 9.45}
    rows = [PublishedRow("other", "a paper", scores), PublishedRow("less", "a paper", {})]
    found = beside(results, rows)
    assert found.rows[0] == ("mine, judged by j", "50.00", "66.67", "33.33")
    assert found.rows[1] == ("other", "72.42", "9.45", "–")
    assert found.notes[0] == "(1) a paper"


def test_the_command_names_what_is_missing() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--judge", JUDGE])
    assert caught.value.code == 2

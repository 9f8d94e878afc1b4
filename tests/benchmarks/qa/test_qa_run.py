"""The job against a policy server in memory: what is kept, counted, gone on with and marked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.published import published
from benchmarks.qa.answered import Answered, read_answered
from benchmarks.qa.job import evaluate
from benchmarks.qa.options import QaConfig
from benchmarks.qa.report import rows, tables
from benchmarks.qa.results import QaResults, read_qa_results
from corpora.questions.mmlu import SUBJECTS
from foundation.errors import UserError

URL = "http://policy.test"
OPTIONS = {"A": "Rest", "B": "Tea", "C": "Ice"}
WORDS = "ABCDEFGHIJKLMNOP"

Answer = Callable[[str, int], str]


class Policy:
    """Answers questions ``q0``, ``q1``, … by a rule, and remembers who asked for what."""

    def __init__(self, answer: Answer = lambda question, sample: "The answer is (A).") -> None:
        self.answer = answer
        self.model = "m"
        self.context: int | None = None
        self.bodies: list[dict[str, Any]] = []
        self.fail: Callable[[str], httpx.Response | Exception | None] = lambda question: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/health":
            return httpx.Response(200)
        if path == "/v1/models":
            base = {"id": "base", "root": self.model, "max_model_len": self.context}
            served = [base, {"id": "r1", "root": "a", "parent": "base"}]
            return httpx.Response(200, json={"data": served})
        body = json.loads(request.content)
        self.bodies.append(body)
        question = next(
            word for word in body["messages"][0]["content"].split() if word.startswith("q")
        )
        failure = self.fail(question)
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return failure
        if path == "/tokenize":
            return httpx.Response(200, json={"tokens": [1, 2]})
        if "prompt_logprobs" in body:
            return self._continued(body["messages"][-1]["content"], question)
        choices = [self._choice(question, sample) for sample in range(body["n"])]
        return httpx.Response(200, json={"prompt_token_ids": [1], "choices": choices})

    def _choice(self, question: str, sample: int) -> dict[str, Any]:
        return {
            "index": sample,
            "message": {"content": self.answer(question, sample)},
            "token_ids": [7, 8],
            "logprobs": {"content": [{"logprob": -0.5}]},
            "finish_reason": "stop",
        }

    def _continued(self, text: str, question: str) -> httpx.Response:
        is_right = self.answer(question, 0).endswith(f"({text[-2]}).")
        token = 10 + WORDS.index(text[-2])
        scored = [None, {"2": {"logprob": -9.0}}, {token: {"logprob": -0.5 if is_right else -2.0}}]
        answer = {"prompt_token_ids": [1, 2, token], "prompt_logprobs": scored, "choices": []}
        return httpx.Response(200, json=answer)


def suite(folder: Path, count: int = 4, name: str = "dev.json") -> Path:
    """Questions whose right answers are A, B, C, A, …"""
    path = folder / name
    questions = {
        f"id{n}": {"question": f"Is it q{n} ?", "options": OPTIONS, "answer": "ABC"[n % 3]}
        for n in range(count)
    }
    path.write_text(json.dumps(questions), encoding="utf-8")
    return path


def config(folder: Path, *suites: str, **changes: Any) -> QaConfig:
    given = {"server": URL, "suites": list(suites), "output": folder / "out", "retry_seconds": 0}
    return QaConfig.model_validate(given | changes)


def run(
    given: QaConfig, policy: Policy, progress: list[tuple[str, int, int]] | None = None
) -> tuple[QaResults, str | None]:
    seen = [] if progress is None else progress
    return asyncio.run(
        evaluate(given, lambda *told: seen.append(told), transport=httpx.MockTransport(policy))
    )


def lines(given: QaConfig, name: str) -> list[Answered]:
    return list(read_answered(given.folder / f"answers-{name}.jsonl"))


def knows(question: str, sample: int) -> str:
    """Right but for q3, where it refuses."""
    number = int(question[1:])
    return "I cannot say." if number == 3 else f"The answer is ({'ABC'[number % 3]})."


def test_greedy_answers_are_scored_kept_and_told(tmp_path: Path) -> None:
    given = config(tmp_path, f"med_qa={suite(tmp_path)}", version="r1")
    policy, progress = Policy(knows), list[tuple[str, int, int]]()
    results, failure = run(given, policy, progress)
    assert failure is None
    assert (results.overall, results.model, results.partial) == (0.75, "r1", False)
    assert results == read_qa_results(given.folder)
    greedy = results.modes["greedy"]
    assert (greedy.parse_rate, greedy.undecided, greedy.mean_tokens) == (0.75, 1, 2)
    assert (greedy.counts.groups, greedy.counts.scored, greedy.counts.failed) == (4, 4, 0)
    assert [(b["n"], b["temperature"], b["top_p"]) for b in policy.bodies] == [(1, 0.0, 1.0)] * 4
    first = lines(given, "med_qa")[0]
    assert (first.id, first.choice, first.is_right) == ("id0", "A", True)
    assert first.samples[0].text == "The answer is (A)."
    assert progress[0] == ("med_qa, greedy", 0, 4)
    assert progress[-1] == ("med_qa, greedy", 4, 4)


def test_several_answers_vote_and_stand_beside_greedy_ones(tmp_path: Path) -> None:
    def wavering(question: str, sample: int) -> str:
        return f"The answer is ({'AAB'[sample % 3]})." if sample else "Hard to say."

    given = config(tmp_path, f"s={suite(tmp_path)}", modes="greedy,self-consistency", samples=5)
    policy = Policy(wavering)
    results, _ = run(given, policy)
    assert (results.mode, results.overall) == ("greedy", 0.0)
    voted = results.modes["self-consistency"]
    assert (voted.overall, voted.parse_rate, voted.undecided) == (0.5, 0.8, 0)
    drawn = [body for body in policy.bodies if body["n"] == 5]
    assert {(body["temperature"], body["top_p"]) for body in drawn} == {(0.7, 0.9)}
    assert len({body["seed"] for body in drawn}) == 4
    line = next(line for line in lines(given, "s") if line.mode == "self-consistency")
    assert [sample.letter for sample in line.samples] == [None, "A", "B", "A", "A"]
    overall, section = rows(results)
    assert (overall.scores["self-consistency"].score, section.name, section.n) == (0.5, "s", 4)


def test_the_likeliest_option_is_the_choice(tmp_path: Path) -> None:
    given = config(tmp_path, f"s={suite(tmp_path)}", modes="likelihood")
    results, _ = run(given, Policy(knows))
    likely = results.modes["likelihood"]
    assert (likely.overall, likely.parse_rate, likely.undecided) == (1.0, None, 0)
    assert lines(given, "s")[1].scores == {"A": -2.0, "B": -0.5, "C": -2.0}


def test_a_question_that_fails_is_counted_never_wrong_and_asked_again(tmp_path: Path) -> None:
    given = config(tmp_path, f"s={suite(tmp_path)}")
    policy = Policy(knows)
    refusal = httpx.Response(400, json={"error": {"message": "maximum context length is 256"}})
    policy.fail = lambda question: refusal if question == "q1" else None
    results, failure = run(given, policy)
    counts = results.modes["greedy"].counts
    assert (failure, counts.scored, counts.failed) == (None, 3, 1)
    assert counts.errors == {"/v1/chat/completions: 400": 1}
    assert results.sections["s"].n == 3
    assert results.partial_reasons == (
        "greedy: 1 question failed and is in no score; the first: /v1/chat/completions: 400:"
        " maximum context length is 256",
    )

    again = Policy(knows)
    results, _ = run(given, again)
    assert len(again.bodies) == 1
    assert (results.overall, results.partial) == (0.75, False)


@pytest.mark.parametrize("kept", [pytest.param(0, id="none"), pytest.param(2, id="too few")])
def test_fewer_answers_than_asked_for_are_an_error_and_no_vote(tmp_path: Path, kept: int) -> None:
    given = config(tmp_path, f"s={suite(tmp_path)}", modes="self-consistency", samples=3)
    policy = Policy(knows)
    choices = [policy._choice("q1", sample) for sample in range(kept)]
    few = httpx.Response(200, json={"prompt_token_ids": [1], "choices": choices})
    policy.fail = lambda question: few if question == "q1" else None
    results, failure = run(given, policy)
    counts = results.modes["self-consistency"].counts
    assert (failure, counts.scored, results.partial) == (None, 3, True)
    assert counts.errors == {"incomplete": 1}

    again = Policy(knows)
    results, _ = run(given, again)
    assert (len(again.bodies), results.partial) == (1, False)


@pytest.mark.parametrize(
    ("tokens", "logprob"),
    [
        pytest.param([1, 2, 3], "NaN", id="nan"),
        pytest.param([1, 2, 3], "-Infinity", id="infinite"),
        pytest.param([1, 2], "-1", id="no token of the option"),
    ],
)
def test_likelihoods_that_are_none_are_an_error_and_no_choice(
    tmp_path: Path, tokens: list[int], logprob: str
) -> None:
    scored = ["null", *(f'{{"{token}": {{"logprob": {logprob}}}}}' for token in tokens[1:])]
    body = f'{{"tokens": [1, 2], "prompt_token_ids": {tokens}, "prompt_logprobs": [%s]}}'
    sick = httpx.Response(200, content=body % ", ".join(scored))
    policy = Policy(knows)
    policy.fail = lambda question: sick if question == "q1" else None
    given = config(tmp_path, f"s={suite(tmp_path)}", modes="likelihood")
    results, failure = run(given, policy)
    counts = results.modes["likelihood"].counts
    assert (failure, counts.scored, counts.failed, results.overall) == (None, 3, 1, 1.0)
    assert list(counts.errors) == ["no_likelihood"]


def test_a_server_that_goes_away_leaves_partial_results_to_go_on_with(tmp_path: Path) -> None:
    given = config(tmp_path, f"s={suite(tmp_path, 6)}", concurrency=1)
    policy = Policy(knows)
    gone = httpx.ConnectError("refused")
    policy.fail = lambda question: gone if int(question[1:]) >= 2 else None
    results, failure = run(given, policy)
    assert failure is not None
    assert "policy server http://policy.test: unreachable (refused)" in failure
    assert (results.overall, results.partial) == (1.0, True)
    assert results.partial_reasons == (failure, "greedy: questions not asked: 4")
    assert len(lines(given, "s")) == 2

    back = Policy(knows)
    results, failure = run(given, back)
    assert (failure, len(back.bodies), results.partial) == (None, 4, False)
    assert [line.number for line in lines(given, "s")] == list(range(6))


def test_an_engine_that_is_dead_ends_the_job_and_not_each_question(tmp_path: Path) -> None:
    policy = Policy()
    policy.fail = lambda question: httpx.Response(500, json={"error": {"message": "dead"}})
    results, failure = run(config(tmp_path, f"s={suite(tmp_path)}", concurrency=1), policy)
    assert failure == "/v1/chat/completions: 500: dead"
    assert (results.overall, results.sections) == (None, {})
    assert len(policy.bodies) < 4


def test_a_mode_may_be_added_and_a_limit_widened_but_nothing_else_changed(tmp_path: Path) -> None:
    path = suite(tmp_path)
    results, _ = run(config(tmp_path, f"s={path}", limit=2), Policy(knows))
    assert results.partial_reasons == ("s: the first 2 of 4 questions (--limit)",)
    policy = Policy(knows)
    results, _ = run(config(tmp_path, f"s={path}", modes="greedy,likelihood"), policy)
    assert sum("prompt_logprobs" not in b and "n" in b for b in policy.bodies) == 2
    assert not results.partial
    with pytest.raises(UserError, match="begun with max_tokens 1024, now it is 8"):
        run(config(tmp_path, f"s={path}", max_tokens=8), Policy())
    suite(tmp_path, 5)
    with pytest.raises(UserError, match="begun with questions '"):
        run(config(tmp_path, f"s={path}"), Policy())
    fresh = Policy(knows)
    run(config(tmp_path, f"s={path}", restart=True), fresh)
    assert len(fresh.bodies) == 5


def test_answers_of_another_job_are_neither_scored_nor_found_too_late(tmp_path: Path) -> None:
    first, second = suite(tmp_path, name="a.json"), suite(tmp_path, name="b.json")
    run(config(tmp_path, f"b={second}"), Policy(knows))
    both: dict[str, Any] = {"max_tokens": 8, "concurrency": 1}
    policy = Policy(knows)
    with pytest.raises(UserError, match=r"answers-b.*begun with max_tokens 1024, now it is 8"):
        run(config(tmp_path, f"a={first}", f"b={second}", **both), policy)
    assert not policy.bodies

    policy.fail = lambda question: httpx.ConnectError("refused")
    again = config(tmp_path, f"a={first}", f"b={second}", restart=True, **both)
    results, failure = run(again, policy)
    assert failure is not None
    assert (results.overall, results.sections) == (None, {})
    assert results.partial_reasons == (failure, "greedy: questions not asked: 8")


def test_an_answer_longer_than_the_context_is_refused_before_anything_is_asked(
    tmp_path: Path,
) -> None:
    policy = Policy(knows)
    policy.context = 256
    given = config(tmp_path, f"s={suite(tmp_path)}", max_tokens=256)
    with pytest.raises(UserError, match=r"--max-tokens: 256 leaves no room .* 256 tokens of base"):
        run(given, policy)
    run(config(tmp_path, f"s={suite(tmp_path)}", max_tokens=255), policy)


def test_a_folder_that_cannot_be_made_is_one_line_and_asks_nothing(tmp_path: Path) -> None:
    policy, file = Policy(knows), suite(tmp_path)
    with pytest.raises(UserError, match=r"^--output: .*dev\.json/out: .*; name another folder$"):
        run(config(tmp_path, f"s={file}", output=file / "out"), policy)
    assert not policy.bodies


def test_another_model_under_the_old_name_does_not_get_the_old_answers(tmp_path: Path) -> None:
    given = config(tmp_path, f"s={suite(tmp_path)}")
    run(given, Policy(knows))
    other = Policy(knows)
    other.model = "models/other"
    with pytest.raises(UserError, match=r"begun with origin 'm', now it is 'models/other'"):
        run(given, other)


def test_no_more_questions_are_under_way_than_asked_for(tmp_path: Path) -> None:
    under_way, most = 0, 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return Policy()(request)

    given = config(tmp_path, f"s={suite(tmp_path, 30)}", concurrency=3)
    transport = httpx.MockTransport(answer)
    asyncio.run(evaluate(given, lambda *told: None, transport=transport))
    assert most == 3


def test_a_version_that_is_not_served_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    policy = Policy()
    with pytest.raises(BenchmarkError, match="--version: r9 is not served; there are: base, r1"):
        run(config(tmp_path, f"s={suite(tmp_path)}", version="r9"), policy)
    assert not policy.bodies


def test_bad_records_are_skipped_and_counted_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    good = {"question": "Is it q0 ?", "options": OPTIONS, "answer_idx": "A"}
    path.write_text("\n".join(map(json.dumps, [good, good | {"answer_idx": "Z"}])))
    with pytest.raises(UserError, match=":2: answer: 'Z' is none of the options"):
        run(config(tmp_path, f"s={path}"), Policy())
    results, _ = run(config(tmp_path, f"s={path}", skip_bad=True), Policy())
    assert results.modes["greedy"].counts.bad_records == 1
    assert results.partial_reasons == ("s: bad records skipped: 1",)


def test_only_the_ids_of_a_file_are_asked_of_pubmed_qa(tmp_path: Path) -> None:
    row = {"QUESTION": "Is it q0 ?", "CONTEXTS": ["Studied."], "final_decision": "yes"}
    path, ids = tmp_path / "ori_pqal.json", tmp_path / "ids.json"
    path.write_text(json.dumps({"1": row, "2": row, "3": row}))
    ids.write_text('{"2": "yes"}')
    policy = Policy()
    given = config(tmp_path, f"pubmed_qa={path}", ids=ids)
    results, _ = run(given, policy)
    assert [line.id for line in lines(given, "pubmed_qa")] == ["2"]
    assert policy.bodies[0]["messages"][0]["content"].startswith("Abstract: Studied.")
    assert not results.partial
    ids.write_text('["9"]')
    with pytest.raises(BenchmarkError, match=r"--suite pubmed_qa: .* no question to ask"):
        run(given, policy)


def test_subjects_of_mmlu_are_columns_and_the_table_stands_beside_published_ones(
    tmp_path: Path,
) -> None:
    path = tmp_path / "test.jsonl"
    row = {"question": "Is it q0 ?", "choices": list(OPTIONS.values()), "answer": 0}
    subjects = ("anatomy", "college_medicine", "astronomy")
    path.write_text("\n".join(json.dumps(row | {"subject": subject}) for subject in subjects))
    results, _ = run(config(tmp_path, f"mmlu={path}"), Policy())
    assert list(results.sections) == ["anatomy", "college_medicine"]
    assert "med_qa" in results.missing
    own, beside = tables(results, published("medical-qa"))
    assert [row[0] for row in own.rows] == ["Overall", "anatomy", "college_medicine"]
    assert "Overall goes without MedQA, MedMCQA, PubMedQA, CK, MG, PM, CB" in own.notes
    assert beside.columns[1:] == (
        "MedQA",
        "MedMCQA",
        "PubMedQA",
        "CK",
        "MG",
        "An",
        "PM",
        "CB",
        "CM",
        "Avg",
    )
    assert (beside.rows[0][6], beside.rows[0][-1]) == ("100.00", "–")


def test_a_mode_without_all_columns_has_no_average_beside_published_ones(tmp_path: Path) -> None:
    names = ("med_qa", "med_mcqa", "pubmed_qa")
    path = tmp_path / "test.jsonl"
    row = {"question": "Is it q0 ?", "choices": list(OPTIONS.values()), "answer": 0}
    path.write_text("\n".join(json.dumps(row | {"subject": subject}) for subject in SUBJECTS))
    suites = [f"{name}={suite(tmp_path, name=f'{name}.json')}" for name in names]
    policy = Policy(knows)
    gone = httpx.ConnectError("refused")
    given = config(tmp_path, f"mmlu={path}", *suites, modes="greedy,likelihood", concurrency=1)

    def fails(question: str) -> Exception | None:
        last = [line for line in lines(given, "pubmed_qa") if line.mode == "greedy"]
        return gone if len(last) == 4 else None

    policy.fail = fails
    results, failure = run(given, policy)
    assert failure is not None
    _, beside = tables(results, published("medical-qa"))
    greedy, likely = beside.rows[:2]
    assert (greedy[0], likely[0]) == ("base, greedy", "base, likelihood")
    assert greedy[-1] != "–"
    assert (likely[3], likely[-1]) == ("–", "–")

"""The job against a policy server in memory: what is asked, kept, compared and marked."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.before_after.comparison import prepare
from benchmarks.before_after.heldout import read_heldout
from benchmarks.before_after.options import BeforeAfterConfig
from benchmarks.before_after.report import tables
from benchmarks.before_after.results import BeforeAfterResults, read_before_after
from benchmarks.errors import BenchmarkError
from corpora.clinic import ClinicWorld
from foundation.errors import UserError
from policy.errors import DeployRefused
from tests.benchmarks.before_after.fakes import TwoPolicies
from tests.benchmarks.before_after.folders import HELDOUT, make_run, write_config, write_suite

URL = "http://policy.test"
WORLD = ClinicWorld(seed=3)
REFERENCES = {
    question.conversation.last: question.reference for question in WORLD.heldout_questions(HELDOUT)
}


def learned(version: str, question: str, sample: int) -> str:
    """The base knows nothing; r2 knows every second sample, and all options but q3's."""
    if question in REFERENCES:
        knows = version == "r2" and sample == 0
        return REFERENCES[question] or "" if knows else "I do not know."
    number = place(question)
    knows = version == "r2" and number != 3
    return f"The answer is ({'ABC'[number % 3] if knows else 'BCA'[number % 3]})."


def place(question: str) -> int:
    """Of a suite's question: 7 for ``Is it q7 ?``."""
    match = re.search(r"q(\d+) ", question)
    return int(match.group(1)) if match else -1


def forgot(version: str, question: str, response: str) -> float:
    return -1.5 if version == "r2" else -1.0


def run(
    tmp_path: Path,
    policies: TwoPolicies,
    progress: list[tuple[str, int, int]] | None = None,
    **options: Any,
) -> tuple[BeforeAfterResults, str | None]:
    folder = tmp_path / "run"
    if not folder.exists():
        make_run(folder)
    given = {"server": URL, "retry_seconds": 0, "output": tmp_path / "out"} | options
    comparison = prepare(BeforeAfterConfig.model_validate(given), folder)
    seen = [] if progress is None else progress
    return asyncio.run(
        comparison.evaluate(URL, lambda *told: seen.append(told), transport=policies.transport)
    )


def test_the_runs_own_questions_are_asked_of_both_with_the_same_seeds(tmp_path: Path) -> None:
    policies, progress = TwoPolicies(learned), list[tuple[str, int, int]]()
    results, failure = run(tmp_path, policies, progress, world_modes="sampled")
    assert (failure, results.partial) == (None, False)
    seeds = {
        version: [body["seed"] for body in policies.bodies if body["model"] == version]
        for version in ("base", "r2")
    }
    assert sorted(seeds["base"]) == sorted(seeds["r2"])
    assert len(set(seeds["r2"])) == HELDOUT
    assert {(b["n"], b["temperature"], b["top_p"], b["max_tokens"]) for b in policies.bodies} == {
        (2, 1.0, 0.9, 32)
    }
    assert progress[0] == ("clinic world, sampled", 0, 2 * HELDOUT)
    assert progress[-1] == ("clinic world, sampled", 2 * HELDOUT, 2 * HELDOUT)
    assert results == read_before_after(tmp_path / "out")


def test_gold_is_the_mean_of_a_questions_candidates(tmp_path: Path) -> None:
    results, _ = run(tmp_path, TwoPolicies(learned), world_modes="sampled,greedy")
    questions = WORLD.heldout_questions(HELDOUT)
    best = [WORLD.gold(question, question.reference or "") for question in questions]
    worst = [WORLD.gold(question, "I do not know.") for question in questions]
    sampled, greedy = (results.suites[f"clinic world, {mode}"] for mode in ("sampled", "greedy"))
    assert (sampled.kind, sampled.measure, sampled.n) == ("world", "gold", HELDOUT)
    assert sampled.before.score == pytest.approx(sum(worst) / HELDOUT)
    assert sampled.after.score == pytest.approx(sum(best + worst) / 2 / HELDOUT)
    assert greedy.after.score == pytest.approx(sum(best) / HELDOUT)
    assert greedy.outcome == "gain"
    manner = results.manner["clinic world, greedy"]
    assert manner["length_tokens"].before.score == 4
    assert manner["length_tokens"].outcome is None
    cut = sum(len((r or "").split()) >= 32 for r in REFERENCES.values()) / HELDOUT
    assert manner["cut_rate"].difference.score == pytest.approx(cut)


def test_known_answers_that_become_less_likely_are_a_tax(tmp_path: Path) -> None:
    results, _ = run(tmp_path, TwoPolicies(learned, forgot), world_modes="references")
    found = results.suites["clinic world, references"]
    assert (found.kind, found.measure, found.outcome) == ("general", "logprob_per_token", "loss")
    assert (found.before.score, found.after.score) == (-1.0, -1.5)
    assert results.verdict[-1] == (
        "alignment tax: general ability was lost in clinic world, references"
    )
    [table] = tables(results)
    assert table.notes[0].startswith(
        "clinic world, references: as perplexity 2.72 before, 4.48 after."
    )


def test_suites_are_asked_of_both_and_general_ability_stands_apart(tmp_path: Path) -> None:
    medical, general = write_suite(tmp_path, 12), write_suite(tmp_path, 3, "general.json")
    results, failure = run(
        tmp_path,
        TwoPolicies(learned),
        world_modes="greedy",
        suites=[f"m={medical}"],
        general=[f"g={general}:mirage"],
    )
    assert (failure, results.partial) == (None, False)
    assert list(results.suites) == ["clinic world, greedy", "m, greedy", "g, greedy"]
    found = results.suites["m, greedy"]
    assert (found.kind, found.measure, found.n, found.outcome) == (
        *("medical", "accuracy", 12),
        "gain",
    )
    assert [found.before.score, found.after.score] == pytest.approx([0, 11 / 12])
    assert results.suites["g, greedy"].kind == "general"
    assert results.suites["g, greedy"].outcome == "unclear"  # three questions prove nothing
    assert [table.title for table in tables(results)] == [
        "The run's own world",
        "Medical questions",
        "General ability",
        "Length of the answers",
    ]
    assert (tmp_path / "out/suites/m/r2/results.json").is_file()
    assert "| m, greedy | accuracy, % | 0.0 | 91.7 | +91.7 |" in (
        tmp_path / "out/table.md"
    ).read_text(encoding="utf-8")
    assert (tmp_path / "out/report.html").is_file()


def test_several_suites_have_an_average_and_parts_are_rows_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    row = {"question": "Is it q0 ?", "choices": ["Rest", "Tea", "Ice"], "answer": 0}
    subjects = ("anatomy", "college_medicine")
    path.write_text("\n".join(json.dumps(row | {"subject": subject}) for subject in subjects))
    results, _ = run(
        tmp_path,
        TwoPolicies(learned),
        world_modes="greedy",
        suites=[f"mmlu={path}", f"m={write_suite(tmp_path, 4)}"],
    )
    names = ["mmlu/anatomy, greedy", "mmlu/college_medicine, greedy", "m, greedy"]
    assert list(results.suites)[1:] == names
    average = results.averages["medical, greedy"]
    assert average.after.score == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert average.n == 6


def test_the_likelier_option_is_the_answer_of_each_version(tmp_path: Path) -> None:
    def weigh(version: str, question: str, response: str) -> float:
        right = "ABC"[place(question) % 3]
        return -0.1 if version == "r2" and response.endswith(f"({right})") else -1.0

    results, _ = run(
        tmp_path,
        TwoPolicies(learned, weigh),
        world_modes="greedy",
        modes="likelihood",
        suites=[f"m={write_suite(tmp_path, 9)}"],
    )
    found = results.suites["m, likelihood"]
    assert [found.before.score, found.after.score] == pytest.approx([1 / 3, 1])
    assert "m, likelihood" not in results.manner


def test_a_question_that_fails_is_in_no_score_and_asked_again(tmp_path: Path) -> None:
    policies = TwoPolicies(learned)
    refusal = httpx.Response(400, json={"error": {"message": "maximum context length is 256"}})
    first = next(iter(REFERENCES))
    policies.fail = lambda version, question: (
        refusal if (version, question) == ("r2", first) else None
    )
    results, failure = run(tmp_path, policies, world_modes="greedy")
    assert failure is None
    assert results.suites["clinic world, greedy"].n == HELDOUT - 1
    assert results.partial_reasons == (
        "clinic world, greedy: 1 question failed and is in no score; the first:"
        " /v1/chat/completions: 400: maximum context length is 256",
    )
    again = TwoPolicies(learned)
    results, _ = run(tmp_path, again, world_modes="greedy")
    assert [body["model"] for body in again.bodies] == ["r2"]
    assert (results.partial, results.suites["clinic world, greedy"].n) == (False, HELDOUT)


def test_a_question_without_a_usable_answer_fails_alone(tmp_path: Path) -> None:
    policies = TwoPolicies(learned)
    nothing = {"tokens": [1, 2], "prompt_token_ids": [1, 2], "prompt_logprobs": [None, {}]}
    refused = httpx.Response(200, json={**nothing, "choices": []})
    first = next(iter(REFERENCES))
    policies.fail = lambda version, question: (
        refused if (version, question) == ("r2", first) else None
    )
    results, failure = run(tmp_path, policies)
    assert failure is None
    modes = ("sampled", "greedy", "references")
    assert {name: found.n for name, found in results.suites.items()} == {
        f"clinic world, {mode}": HELDOUT - 1 for mode in modes
    }
    for mode, reason in zip(modes, results.partial_reasons, strict=True):
        assert reason.startswith(f"clinic world, {mode}: 1 question failed and is in no score; ")


def test_a_job_that_ends_early_shows_no_answers_of_another_one(tmp_path: Path) -> None:
    suites = [f"{name}={write_suite(tmp_path, 4, f'{name}.json')}" for name in ("a", "b")]
    options: dict[str, Any] = {"world_modes": "greedy", "suites": suites, "concurrency": 1}
    run(tmp_path, TwoPolicies(learned), **options)
    policies = TwoPolicies(learned)
    with pytest.raises(UserError, match="begun with max_tokens 1024, now it is 9"):
        run(tmp_path, policies, **options, max_tokens=9)
    assert not policies.bodies

    policies.fail = lambda version, question: (
        httpx.ConnectError("refused") if place(question) >= 0 else None
    )
    results, failure = run(tmp_path, policies, **options, max_tokens=9, restart=True)
    assert failure is not None
    assert list(results.suites) == ["clinic world, greedy"]
    assert results.partial_reasons == (
        failure,
        *(f"{name}, greedy: questions not asked of both: 4" for name in ("a", "b")),
    )


def test_a_server_that_dies_leaves_partial_results_to_go_on_with(tmp_path: Path) -> None:
    medical = write_suite(tmp_path, 6)
    options: dict[str, Any] = {
        "world_modes": "greedy",
        "suites": [f"m={medical}"],
        "concurrency": 1,
    }
    policies = TwoPolicies(learned)
    policies.fail = lambda version, question: (
        httpx.ConnectError("refused") if place(question) >= 2 else None
    )
    results, failure = run(tmp_path, policies, **options)
    assert failure is not None
    assert "unreachable (refused)" in failure
    assert results.suites["clinic world, greedy"].n == HELDOUT
    assert results.suites["m, greedy"].n == 2
    assert results.partial_reasons == (failure, "m, greedy: questions not asked of both: 4")
    assert read_before_after(tmp_path / "out") == results

    back = TwoPolicies(learned)
    results, failure = run(tmp_path, back, **options)
    assert (failure, results.partial, len(back.bodies)) == (None, False, 8)
    assert results.suites["m, greedy"].n == 6


def test_a_server_that_dies_among_the_runs_own_questions_ends_the_asking(tmp_path: Path) -> None:
    policies = TwoPolicies(learned)
    policies.fail = lambda version, question: httpx.Response(500, json={})
    results, failure = run(tmp_path, policies, suites=[f"m={write_suite(tmp_path)}"])
    assert failure is not None
    assert (results.suites, results.averages, results.partial) == ({}, {}, True)
    assert "m, greedy: questions not asked of both: 4" in results.partial_reasons
    assert "nothing" not in results.verdict
    assert (tmp_path / "out/report.html").is_file()


def test_modes_and_questions_may_be_added_but_the_policy_may_not_change(tmp_path: Path) -> None:
    results, _ = run(tmp_path, TwoPolicies(learned), world_modes="greedy", questions=2)
    assert results.partial_reasons == ("clinic world: the first 2 of 6 questions (--questions)",)
    policies = TwoPolicies(learned)
    results, _ = run(tmp_path, policies, world_modes="greedy,sampled")
    assert sum(body["n"] == 1 for body in policies.bodies) == 8
    assert not results.partial
    assert len(list(read_heldout(tmp_path / "out/heldout.jsonl"))) == 4 * HELDOUT
    weights = tmp_path / "run/policies/r2/adapter_model.safetensors"
    weights.write_bytes(b"other weights")
    with pytest.raises(UserError, match="begun with policy 'r2 "):
        run(tmp_path, TwoPolicies(learned), world_modes="greedy")
    fresh = TwoPolicies(learned)
    run(tmp_path, fresh, world_modes="greedy", restart=True)
    assert len(fresh.bodies) == 2 * HELDOUT


def test_a_run_that_goes_on_is_marked(tmp_path: Path) -> None:
    make_run(tmp_path / "run", status="running")
    results, _ = run(tmp_path, TwoPolicies(learned), world_modes="greedy")
    assert results.partial_reasons == (
        "the run is running, not completed: r2 is the last policy that it promoted so far",
    )


def test_a_world_without_truth_still_shows_lengths(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("\n".join(json.dumps({"prompt": f"Question q{n} ?"}) for n in range(20)))
    folder = make_run(tmp_path / "run")
    write_config(folder, data={"world": "prompts", "path": str(prompts), "heldout_questions": 4})
    results, failure = run(tmp_path, TwoPolicies(learned))
    assert (failure, results.suites, results.partial) == (None, {}, False)
    assert results.manner["prompts world, greedy"]["length_tokens"].n == 4


def test_a_version_that_is_not_served_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    policies = TwoPolicies(learned)
    policies.versions = ["r1"]
    with pytest.raises(BenchmarkError, match="r2 is not served; there are: base, r1; leave"):
        run(tmp_path, policies)
    assert not policies.bodies


def test_a_served_version_with_other_weights_is_refused(tmp_path: Path) -> None:
    policies = TwoPolicies(learned)
    policies.canary_shift = -0.4
    with pytest.raises(DeployRefused, match="r2 does not give the trainer's logprobs"):
        run(tmp_path, policies)
    assert not policies.bodies


def test_nobody_at_the_url_is_one_line_with_the_fix(tmp_path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    comparison = prepare(
        BeforeAfterConfig(server=URL, output=tmp_path / "out"), make_run(tmp_path / "run")
    )
    with pytest.raises(BenchmarkError, match=f"--server: {URL}: nobody answers; correct the URL"):
        asyncio.run(
            comparison.evaluate(URL, lambda *_: None, transport=httpx.MockTransport(refuse))
        )


def test_a_suite_that_cannot_be_read_ends_the_job_before_a_server_is_started(
    tmp_path: Path,
) -> None:
    config = BeforeAfterConfig.model_validate({"suites": [f"m={tmp_path}/none.json"]})
    with pytest.raises(UserError, match=r"none\.json"):
        prepare(config, make_run(tmp_path / "run"))

"""The job with a policy and a reward model in memory: what is kept, counted and gone on with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.best_of_n.job import Evaluated, evaluate, main, open_source
from benchmarks.best_of_n.options import BestOfNConfig
from benchmarks.best_of_n.results import read_best_of_n_results
from benchmarks.errors import BenchmarkError
from benchmarks.qa.answered import Mode
from benchmarks.qa.job import evaluate as ask_suites
from benchmarks.qa.options import QaConfig
from corpora.clinic import ClinicWorld
from corpora.errors import CorpusError
from foundation.errors import UserError
from foundation.settings import SettingsError, check
from tests.benchmarks.best_of_n.fakes import URL, Policy, number_of, suite
from tests.benchmarks.evaluation.fakes import FakeEndpoint

# Rewards are lengths: a right answer is the longer one in half of the questions.
SHORT, LONG = "The answer is ({}).", "I think about it. The answer is ({})."


@pytest.fixture(autouse=True)
def _quick_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the whole clinic world it takes seconds, and nothing here depends on it."""
    monkeypatch.setattr(ClinicWorld, "digest", "d1ge57")


def wavering(text: str, sample: int) -> str:
    """Right in one of four samples, and there longer in every second question."""
    if sample != 2:
        return SHORT.format("B")
    return (LONG if number_of(text) % 2 else "The answer: A").format("A")


def config(folder: Path, **changes: Any) -> BestOfNConfig:
    given = {"policy": URL, "output": folder / "out", "samples": 4, "seed": 3}
    given["policy_retry_seconds"] = 0
    return check(BestOfNConfig, given | changes, source="command line")


def qa_config(path: Path, folder: Path, *modes: Mode) -> QaConfig:
    return QaConfig(
        server=URL, suites={"s": str(path)}, output=folder, modes=modes, samples=4, seed=3
    )


def run(
    given: BestOfNConfig,
    policy: Policy,
    *suites: str,
    endpoint: FakeEndpoint | None = None,
    progress: list[tuple[str, int, int]] | None = None,
) -> Evaluated:
    seen = [] if progress is None else progress
    return asyncio.run(
        evaluate(
            given,
            suites,
            lambda *told: seen.append(told),
            endpoint=endpoint or FakeEndpoint(),
            transport=policy.transport,
        )
    )


def test_samples_are_drawn_scored_and_compared(tmp_path: Path) -> None:
    policy, endpoint = Policy(wavering), FakeEndpoint()
    progress: list[tuple[str, int, int]] = []
    given = config(tmp_path)
    done = run(given, policy, f"s={suite(tmp_path)}", endpoint=endpoint, progress=progress)
    assert (done.failures, done.results.partial) == ((), False)
    assert done.results == read_best_of_n_results(done.folder)
    overall = done.results.overall
    assert overall is not None
    assert overall.last("reward").score == 0.5
    assert overall.last("vote").score == 0.0
    assert overall.last("random").score == 0.25
    assert overall.last("oracle").score == 1.0
    assert {(body["n"], body["temperature"], body["top_p"]) for body in policy.bodies} == {
        (4, 0.7, 0.9)
    }
    assert progress[-1] == ("rewards", 4, 4)
    for group, body in zip(endpoint.asked, policy.bodies, strict=True):
        assert [m.model_dump() for m in group.messages] == body["messages"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("rewards.jsonl", "rewards.jsonl.json", "samples"),
        *("results.json", "table.md", "report.html"),
    }
    assert "reward − vote" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")


def test_the_end_of_the_vote_curve_is_the_suites_self_consistency(tmp_path: Path) -> None:
    def answer(text: str, sample: int) -> str:
        return SHORT.format("ABCA"[(number_of(text) + sample * sample) % 4])

    path = suite(tmp_path, 12)
    voted = run(config(tmp_path), Policy(answer), f"s={path}").results.overall
    asked = qa_config(path, tmp_path / "qa", "self-consistency")
    transport = Policy(answer).transport
    results, _ = asyncio.run(ask_suites(asked, lambda *told: None, transport=transport))
    assert voted is not None
    assert 0 < voted.last("vote").score < 1
    assert voted.last("vote").score == results.overall


def test_a_question_that_fails_is_counted_and_asked_again(tmp_path: Path) -> None:
    policy, given = Policy(wavering), config(tmp_path)
    refusal = httpx.Response(400, json={"error": {"message": "maximum context length is 256"}})
    policy.fail = lambda text: refusal if number_of(text) == 1 else None
    asked = f"s={suite(tmp_path)}"
    results = run(given, policy, asked).results
    assert (results.counts.scored, results.counts.failed) == (3, 1)
    assert results.counts.errors == {"/v1/chat/completions: 400": 1}
    assert results.partial_reasons == (
        "1 question failed and is in no score; the first: /v1/chat/completions: 400: maximum"
        " context length is 256",
    )

    again, endpoint = Policy(wavering), FakeEndpoint()
    results = run(given, again, asked, endpoint=endpoint).results
    assert (len(again.bodies), len(endpoint.asked)) == (1, 1)
    assert (results.counts.scored, results.partial) == (4, False)


def test_a_policy_that_dies_leaves_what_was_sampled_scored(tmp_path: Path) -> None:
    policy, given = Policy(wavering), config(tmp_path, policy_concurrency=1)
    gone = httpx.ConnectError("refused")
    policy.fail = lambda text: gone if number_of(text) >= 2 else None
    asked = f"s={suite(tmp_path)}"
    done = run(given, policy, asked)
    assert "unreachable (refused)" in done.failures[0]
    assert done.results.counts.scored == 2
    assert done.results.partial_reasons == (done.failures[0], "questions not asked: 2")

    done = run(given, Policy(wavering), asked)
    assert (done.failures, done.results.counts.scored) == ((), 4)


def test_a_reward_server_that_dies_leaves_what_was_scored(tmp_path: Path) -> None:
    given, asked = config(tmp_path), f"s={suite(tmp_path)}"
    done = run(given, Policy(wavering), asked, endpoint=FakeEndpoint(fails_after=3))
    assert done.failures == ("the server is gone",)
    assert done.results.overall is not None
    assert done.results.overall.questions == 3
    assert done.results.partial_reasons == (
        "the server is gone",
        "questions with samples and no rewards: 1",
    )
    policy, endpoint = Policy(wavering), FakeEndpoint()
    done = run(given, policy, asked, endpoint=endpoint)
    assert (len(policy.bodies), len(endpoint.asked), done.results.partial) == (0, 1, False)


def test_several_reward_models_choose_from_the_same_samples(tmp_path: Path) -> None:
    asked, shared = f"s={suite(tmp_path)}", tmp_path / "shared"
    run(config(tmp_path, samples_folder=shared), Policy(wavering), asked)
    other, policy = config(tmp_path, samples_folder=shared, output=tmp_path / "b"), Policy(wavering)
    done = run(other, policy, asked)
    assert policy.bodies == []
    assert done.results.counts.scored == 4
    restarted = config(tmp_path, samples_folder=shared, output=tmp_path / "b", restart=True)
    endpoint = FakeEndpoint()
    run(restarted, policy, asked, endpoint=endpoint)
    assert (policy.bodies, len(endpoint.asked)) == ([], 4)


def test_greedy_answers_of_an_evaluation_of_the_suites_stand_beside_the_curves(
    tmp_path: Path,
) -> None:
    asked, qa = f"s={suite(tmp_path)}", tmp_path / "qa"
    modes = qa_config(suite(tmp_path), qa, "greedy", "self-consistency")
    transport = Policy(lambda text, sample: SHORT.format("A")).transport
    asyncio.run(ask_suites(modes, lambda *told: None, transport=transport))
    policy = Policy(wavering)
    results = run(config(tmp_path, samples_folder=qa), policy, asked).results
    assert policy.bodies == []
    assert results.overall is not None
    assert results.overall.greedy is not None
    assert results.overall.greedy.score == 1.0


def test_other_samples_or_another_reward_model_need_another_folder(tmp_path: Path) -> None:
    asked = f"s={suite(tmp_path)}"
    run(config(tmp_path), Policy(wavering), asked)
    with pytest.raises(UserError, match=r"begun with temperature 0\.7, now it is 1\.0"):
        run(config(tmp_path, temperature=1.0), Policy(wavering), asked)
    with pytest.raises(UserError, match="begun with on_overflow 'error', now it is 'truncate'"):
        run(config(tmp_path, on_overflow="truncate"), Policy(wavering), asked)
    policy = Policy(wavering)
    run(config(tmp_path, temperature=1.0, restart=True), policy, asked)
    assert len(policy.bodies) == 4


def test_held_out_questions_of_a_world_are_worth_their_gold(tmp_path: Path) -> None:
    world = ClinicWorld(seed=3)
    questions = {q.conversation.last: q for q in world.heldout_questions(6)}

    def answer(text: str, sample: int) -> str:
        reference = questions[text].reference
        assert reference is not None
        return reference if sample == 1 else "I do not know."

    given = config(tmp_path, world="clinic", questions=6)
    policy = Policy(answer)
    results = run(given, policy).results
    assert (results.measure, results.partial) == ("gold", False)
    assert list(results.sections) == ["clinic"]
    assert results.overall is not None
    assert list(results.overall.curves) == ["reward", "random", "oracle"]
    expected = sum(world.gold(q, q.reference or "") for q in questions.values()) / 6
    assert results.overall.last("reward").score == pytest.approx(expected)  # it is the longest
    assert results.overall.last("random").score < expected
    assert len({body["seed"] for body in policy.bodies}) == 6

    wider, more = config(tmp_path, world="clinic", questions=7), Policy(lambda text, sample: "Rest")
    results = run(wider, more).results
    assert (len(more.bodies), results.counts.scored) == (1, 7)
    colder = config(tmp_path, world="clinic", questions=6, temperature=0.5)
    with pytest.raises(UserError, match=r"begun with temperature 0\.7, now it is 0\.5"):
        run(colder, more)


def test_a_world_goes_on_after_a_policy_that_died_and_counts_refusals(tmp_path: Path) -> None:
    given = config(tmp_path, world="clinic", questions=5, policy_concurrency=1)
    last = [q.conversation.last for q in ClinicWorld(seed=3).heldout_questions(5)]
    policy = Policy(lambda text, sample: "Rest.")
    refusal = httpx.Response(400, json={"error": {"message": "too long"}})
    gone = httpx.ConnectError("refused")
    failures: dict[str, httpx.Response | Exception] = {last[1]: refusal, last[3]: gone}
    policy.fail = failures.get
    done = run(given, policy)
    assert len(done.failures) == 1
    assert (done.results.counts.scored, done.results.counts.failed) == (2, 1)
    assert "questions not asked: 2" in done.results.partial_reasons
    policy = Policy(lambda text, sample: "Rest.")
    done = run(given, policy)
    assert len(policy.bodies) == 3
    assert (done.results.counts.scored, done.results.partial) == (5, False)


def test_a_damaged_line_of_a_world_is_named(tmp_path: Path) -> None:
    given = config(tmp_path, world="clinic", questions=1)
    run(given, Policy(lambda text, sample: "Rest."))
    journal = given.folder_of_answers / "answers-clinic.jsonl"
    journal.write_text('{"number": "x", "id": "q"}\n')
    with pytest.raises(UserError, match=r"answers-clinic.jsonl:1: number: .*--restart"):
        run(given, Policy(lambda text, sample: "Rest."))


def test_fewer_samples_than_asked_for_are_an_error(tmp_path: Path) -> None:
    class Stingy(Policy):
        def _respond(self, request: httpx.Request) -> httpx.Response:
            response = super()._respond(request)
            if not request.url.path.endswith("completions"):
                return response
            answer = json.loads(response.content)
            return httpx.Response(200, json=answer | {"choices": answer["choices"][:1]})

    given, asked = config(tmp_path), f"s={suite(tmp_path)}"
    results = run(given, Stingy(wavering), asked).results
    assert results.overall is None
    assert results.counts.errors == {"incomplete": 4}
    again = Policy(wavering)
    assert run(given, again, asked).results.counts.scored == len(again.bodies) == 4

    world = config(tmp_path, world="clinic", questions=2, output=tmp_path / "world")
    results = run(world, Stingy(lambda text, sample: "Rest.")).results
    assert results.counts.errors == {"incomplete": 2}
    again = Policy(lambda text, sample: "Rest.")
    assert run(world, again).results.counts.scored == len(again.bodies) == 2


@pytest.mark.parametrize(
    ("changes", "suites", "message"),
    [
        pytest.param({}, (), "--suite: missing", id="no questions"),
        pytest.param({"world": "clinic"}, ("s=x",), "beside --suite s=x", id="both kinds"),
        pytest.param({}, ("dev.json",), "--suite dev.json: write it as NAME=SOURCE", id="no name"),
        pytest.param({"world": "medical-meadow"}, (), "data.path: missing", id="no file"),
        pytest.param(
            {"questions": 5}, ("s=x",), "--questions: is for a world only", id="questions"
        ),
        pytest.param(
            {"world": "clinic", "limit": 5}, (), "--limit: is for suites only", id="limit"
        ),
        pytest.param({"world": "clinic", "questions": 9_999}, (), "9999 wanted", id="too many"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], suites: tuple[str, ...], message: str
) -> None:
    with pytest.raises((BenchmarkError, SettingsError, CorpusError)) as caught:
        open_source(config(tmp_path, **changes), suites)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_world_without_truth_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": f"Is it {n}?"}) for n in range(10)))
    with pytest.raises(BenchmarkError, match="--world: prompts has no gold"):
        open_source(config(tmp_path, world="prompts", world_path=path, questions=2), ())


def test_a_policy_that_is_not_there_is_named_by_its_own_flag(tmp_path: Path) -> None:
    policy = Policy(wavering)
    policy._respond = lambda request: httpx.Response(503)  # type: ignore[method-assign]
    with pytest.raises(BenchmarkError, match=f"--policy: {URL}: nobody answers"):
        run(config(tmp_path), policy, f"s={suite(tmp_path)}")


def test_the_command_names_what_is_missing() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--suite", "s=dev.json"])
    assert caught.value.code == 2
    with pytest.raises(UserError, match="--suite: missing"):
        main(["--policy", URL, "--server", URL])


def test_default_folders_let_reward_models_share_samples() -> None:
    given = check(BestOfNConfig, {"policy": URL, "version": "r3"}, source="x")
    assert given.folder_of_answers == Path("evaluations/best-of-n/r3/samples")
    assert given.folder_of("a/rm", "5f0cabcdef") == Path("evaluations/best-of-n/r3/a-rm-5f0cabcd")

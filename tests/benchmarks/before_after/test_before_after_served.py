"""The whole command on a run folder with real policies, served by a real vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.before_after.heldout import JOURNAL, HeldoutAnswer, read_heldout
from benchmarks.before_after.job import main
from benchmarks.before_after.results import BeforeAfterResults, read_before_after
from foundation.errors import UserError
from policy.client import AsyncPolicyClient
from policy.deploy import write_canaries
from tests.benchmarks.before_after.folders import HELDOUT, copy_run, make_run, write_suite
from tests.policy.tiny import MAX_LENGTH, RunningPolicy, TinyPolicy, TrainerView

ENGINE = {"dtype": "float32", "max_model_len": MAX_LENGTH, "max_num_seqs": 64}


@pytest.fixture(scope="module")
def run_folder(tiny_policy: TinyPolicy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose final policy is the adapter ``r1``, with what its trainer knows of it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    copy_run(folder, base=tiny_policy.model, adapter=tiny_policy.adapters["r1"], engine=ENGINE)
    write_canaries(folder / "policies" / "r1", TrainerView(tiny_policy).canaries("r1"))
    return folder


@contextmanager
def served(server: RunningPolicy, adapter: Path) -> Iterator[None]:
    """The shared server with the adapter loaded, and left without it."""

    async def change(*, loads: bool) -> None:
        async with AsyncPolicyClient(server.url) as policy:
            if loads:
                await policy.load_adapter("r1", adapter)
            else:
                await policy.unload_adapter("r1")

    asyncio.run(change(loads=True))
    try:
        yield
    finally:
        asyncio.run(change(loads=False))


def arguments(run_folder: Path, tmp_path: Path) -> list[str]:
    medical, general = write_suite(tmp_path), write_suite(tmp_path, 2, "general.json")
    return [
        *(str(run_folder), "--output", str(tmp_path / "out"), "--modes", "likelihood,greedy"),
        *("--suite", f"m={medical}", "--general", f"g={general}:mirage", "--max-tokens", "16"),
    ]


def kept(tmp_path: Path) -> list[HeldoutAnswer]:
    """The answers of the journal that are no errors."""
    return [line for line in read_heldout(tmp_path / "out" / JOURNAL) if line.error is None]


def check_whole(results: BeforeAfterResults) -> None:
    """Everything was asked of both, but known answers that the tiny policy has no room for."""
    assert (results.before, results.after) == ("base", "r1")
    titles = ["clinic world, sampled", "clinic world, greedy"]
    titles += [f"{name}, {mode}" for name in "mg" for mode in ("likelihood", "greedy")]
    assert set(titles) <= results.suites.keys()
    assert {results.suites[title].n for title in titles[:2]} == {HELDOUT}
    assert all(reason.startswith("clinic world, references") for reason in results.partial_reasons)
    assert results.settings["served_as_trained"]["verified"]


@pytest.mark.integration
def test_both_versions_of_a_running_server_are_compared(
    policy_server: RunningPolicy,
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with served(policy_server, run_folder / "policies" / "r1"):
        given = [*arguments(run_folder, tmp_path), "--server", policy_server.url]
        assert main(given) == 0
        first = read_before_after(tmp_path / "out")
        check_whole(first)
        before = kept(tmp_path)
        assert main(given) == 0  # the same command again asks nothing but what failed
    assert kept(tmp_path) == before
    assert read_before_after(tmp_path / "out").suites == first.suites
    shown = capsys.readouterr().out
    assert "by-hand: r1 against base" in shown
    assert "General ability" in shown


@pytest.mark.integration
def test_the_two_policies_do_not_answer_alike(
    policy_server: RunningPolicy, run_folder: Path, tmp_path: Path
) -> None:
    with served(policy_server, run_folder / "policies" / "r1"):
        given = [str(run_folder), "--output", str(tmp_path / "out"), "--world-modes", "greedy"]
        main([*given, "--server", policy_server.url])
    texts = {(line.version, line.number): line.draws[0].text for line in kept(tmp_path)}
    assert any(texts["base", number] != texts["r1", number] for number in range(HELDOUT))


@pytest.mark.integration
@pytest.mark.slow
def test_a_server_is_started_for_the_job_and_stopped_after_it(
    run_folder: Path, tmp_path: Path
) -> None:
    assert main(arguments(run_folder, tmp_path)) == 0
    results = read_before_after(tmp_path / "out")
    check_whole(results)
    assert results.settings["server"] == "started for this job"
    log = (tmp_path / "out/logs/policy-server.log").read_text(encoding="utf-8")
    assert "Traceback" not in log


def test_a_run_without_a_final_policy_starts_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", version="r1")
    summary = (folder / "summary.json").read_text().replace('"r1"', '"base"')
    (folder / "summary.json").write_text(summary)
    with pytest.raises(UserError, match="nothing was promoted"):
        main([str(folder), "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()

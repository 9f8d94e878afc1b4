"""The whole command on a real server and in this process: files, resume, faults."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.errors import EvaluationFailed
from benchmarks.evaluation.job import main
from benchmarks.results import Results, read_results
from benchmarks.stored_scores import read_scores
from foundation.errors import JobError, UserError
from foundation.journal import JournalError
from foundation.process import free_port

pytestmark = pytest.mark.integration

WORDS = ["rest", "water", "steam", "tea", "doctor", "fever", "nose", "throat", "sleep", "salt"]


SLOWLY = ("--concurrency", "1", "--groups-per-request", "1")


def started(*arguments: str) -> subprocess.Popen[str]:
    """A command of this project; standard output and error are one stream."""
    command = [sys.executable, "-m", "medpref", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    told = []
    for line in process.stdout:
        told.append(line)
        if words in line:
            return
    raise AssertionError(f"no {words} in {told}")


def sentence(seed: int, length: int) -> str:
    return " ".join(
        WORDS[(seed * 7 + step * (seed % 5 + 1)) % len(WORDS)] for step in range(length)
    )


def write_pairs(path: Path, count: int, *, subsets: int = 2) -> Path:
    """Pairs of different lengths in one of two subsets."""
    rows = [
        {
            "id": f"p{i}",
            "subset": f"part-{i % subsets}",
            "prompt": f"What helps against {sentence(i, 1 + i % 4)}?",
            "chosen": sentence(i, 2 + i % 9),
            "rejected": sentence(i + 11, 2 + i % 7),
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(data: Path, output: Path, *flags: str, suite: str = "pairs") -> Results:
    arguments = [str(data), "--output", str(output), *flags]
    assert main(arguments, prog=f"medpref bench {suite}", suite=suite) == 0
    return read_results(output)


def rewards(folder: Path) -> list[tuple[float | None, ...]]:
    return [group.rewards for group in read_scores(folder)]


def test_an_evaluation_leaves_everything_that_was_promised(
    tmp_path: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = write_pairs(tmp_path / "pairs.jsonl", 40), tmp_path / "out"
    results = run(data, output, "--server", server, "--name", "org/tiny")
    assert results.model == "org/tiny"
    assert results.fingerprint
    assert (results.counts.groups, results.counts.scored, results.partial) == (40, 40, False)
    assert {name: score.n for name, score in results.sections.items()} == {
        "part-0": 20,
        "part-1": 20,
    }
    controls = results.controls
    assert controls.longer_wins is not None
    assert controls.shuffled_question is not None
    assert controls.empty_question is not None
    assert controls.calibration is not None
    assert controls.batch_composition is not None
    assert controls.batch_composition.changed_order == 0
    assert controls.batch_composition.largest_change == pytest.approx(0, abs=1e-5)
    assert controls.swapped_order is None, "a reward that sees no rivals has no order"
    assert [path.name for path in sorted(output.iterdir())] == [
        *("controls", "reference", "report.html", "results.json", "scores.jsonl"),
        *("scores.jsonl.json", "table.md"),
    ]
    lines = (output / "reference/org/tiny_outputs.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert len(lines) == 40
    assert first["results"] in (0, 1)
    assert first["text_chosen"][-1]["content"] == sentence(0, 2)
    printed = capsys.readouterr()
    assert "Under another question" in printed.out
    assert '"task": "as asked"' in printed.err


@pytest.mark.parametrize("size", [1, 2, 3, 17, 64])
def test_the_size_of_requests_and_batches_changes_no_decision(
    tmp_path: Path, server: str, model_folder: Path, size: int
) -> None:
    """RewardBench #137: the reference tool gave 0.429, 0.476 and 0.480 at sizes 1, 2 and 3."""
    data = write_pairs(tmp_path / "pairs.jsonl", 70)
    flags = ("--controls", "none", "--server", server)
    over_http = run(data, tmp_path / "http", *flags, "--groups-per-request", str(size))
    local = ("--controls", "none", "--model-path", str(model_folder), "--dtype", "float32")
    tokens = ("--max-batch-tokens", str(64 * size))
    in_process = run(data, tmp_path / "local", *local, *tokens)
    assert over_http.overall == in_process.overall
    assert over_http.sections == in_process.sections
    for one, other in zip(rewards(tmp_path / "http"), rewards(tmp_path / "local"), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_stored_scores_give_the_same_numbers_without_a_model(tmp_path: Path, server: str) -> None:
    data, output = write_pairs(tmp_path / "pairs.jsonl", 30), tmp_path / "out"
    results = run(data, output, "--server", server, "--controls", "none", "--name", "org/tiny")
    for file in ("scores.jsonl", "reference/org/tiny_outputs.jsonl"):
        again = tmp_path / f"again-{Path(file).stem}"
        arguments = ["--scores", str(output / file), "--output", str(again)]
        assert main(arguments, prog="medpref bench pairs", suite="pairs") == 0
        stored = read_results(again)
        assert stored.overall == results.overall
        assert stored.overall_ci95 == results.overall_ci95
        assert stored.sections == results.sections
        assert stored.controls.calibration == results.controls.calibration


def test_the_same_command_goes_on_and_another_job_is_refused(tmp_path: Path, server: str) -> None:
    data, output = write_pairs(tmp_path / "pairs.jsonl", 20), tmp_path / "out"
    results = run(data, output, "--server", server, "--controls", "none")
    lines = (output / "scores.jsonl").read_text().splitlines(keepends=True)
    (output / "scores.jsonl").write_text("".join(lines[:7]) + lines[7][:20])  # as a kill leaves it
    again = run(data, output, "--server", server, "--controls", "none")
    assert again.sections == results.sections
    assert [group.number for group in read_scores(output)] == list(range(20))
    other = write_pairs(tmp_path / "other.jsonl", 21)
    with pytest.raises(JournalError, match="begun with data"):
        run(other, output, "--server", server, "--controls", "none")


def test_what_changes_the_texts_or_their_length_is_another_job(
    tmp_path: Path, server: str, model_folder: Path
) -> None:
    data = write_pairs(tmp_path / "pairs.jsonl", 4)
    local = ("--controls", "none", "--model-path", str(model_folder), "--dtype", "float32")
    run(data, tmp_path / "local", *local, "--max-length", "250")
    with pytest.raises(JournalError, match="begun with max_length 250, now it is None"):
        run(data, tmp_path / "local", *local)
    shutil.copytree(model_folder, tmp_path / "other")
    rendered = ("--controls", "none", "--server", server, "--wire", "openrlhf", "--tokenizer")
    run(data, tmp_path / "rendered", *rendered, str(model_folder))
    with pytest.raises(JournalError, match="begun with tokenizer"):
        run(data, tmp_path / "rendered", *rendered, str(tmp_path / "other"))


def test_a_server_that_dies_half_way_leaves_partial_results(
    tmp_path: Path, model_folder: Path
) -> None:
    data, output, port = write_pairs(tmp_path / "pairs.jsonl", 400), tmp_path / "out", free_port()
    serve = ["serve", "reward", "--model", str(model_folder), "--port", str(port)]
    with started(*serve, "--dtype", "float32") as server:
        wait_for(server, "server.ready")
        url = f"http://127.0.0.1:{port}"
        flags = ["--output", str(output), "--server", url, "--controls", "none"]
        with started("bench", "pairs", str(data), *flags, *SLOWLY, "--retry-seconds", "0") as job:
            wait_for(job, '"done": 40')
            server.kill()
            words = job.communicate()[0]
    assert job.returncode == 1
    assert "what was scored is kept: start again to go on" in words.splitlines()[-1]
    results = read_results(output)
    assert results.partial
    assert 40 <= results.counts.scored < results.counts.groups == 400
    assert any(reason.startswith("ended half-way: ") for reason in results.partial_reasons)
    assert results.overall is not None


def test_a_killed_evaluation_loses_nothing(tmp_path: Path, server: str) -> None:
    data, output = write_pairs(tmp_path / "pairs.jsonl", 300), tmp_path / "out"
    flags = [str(data), "--output", str(output), "--server", server, "--controls", "none"]
    with started("bench", "pairs", *flags, *SLOWLY) as job:
        wait_for(job, '"done": 30')
        job.kill()
    kept = [group.to_json() for group in read_scores(output)]
    assert 30 <= len(kept) < 300
    run(data, output, *flags[3:])
    whole = [group.to_json() for group in read_scores(output)]
    assert whole[: len(kept)] == kept
    assert len(whole) == 300


def test_what_has_no_reward_is_counted_and_told(
    tmp_path: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pairs(tmp_path / "pairs.jsonl", 4)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows[1]["chosen"] = sentence(3, 400)
    rows.append({"prompt": "What?", "chosen": True, "rejected": "No."})
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"pairs\.jsonl:5: chosen: expected text or messages"):
        run(data, tmp_path / "strict", "--server", server)
    results = run(data, tmp_path / "out", "--server", server, "--skip-bad", "--controls", "none")
    assert (results.counts.scored, results.counts.failed, results.counts.bad_records) == (3, 1, 1)
    assert sum(results.counts.errors.values()) == 2
    assert results.partial
    assert "Partial: 1 record could not be read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param([], "nothing to ask; give --server URL", id="nobody"),
        pytest.param(["--server", "u", "--scores", "s"], "--server and --scores", id="two"),
        pytest.param(["--server", "http://127.0.0.1:9"], "no answer from", id="gone"),
        pytest.param(["--judge", "http://j/v1"], "--model: missing", id="judge"),
        pytest.param(
            ["--judge", "http://j/v1", "--model", "m", "--on-overflow", "truncate"],
            "^--on-overflow: truncate; is for a reward model",
            id="judge_overflow",
        ),
        pytest.param(["--scores", "s", "--limit", "3"], "^--limit: 3; stored scores are", id="lim"),
        pytest.param(["--server", "http://x", "--format", "nope"], "format: 'nope' is not", id="f"),
        pytest.param(["--server", "http://x", "--controls", "nope"], "controls", id="controls"),
        pytest.param(["--server", "http://x", "--prior-sets", "p"], "--prior-sets: ", id="prior"),
    ],
)
def test_a_wrong_flag_is_one_line(tmp_path: Path, flags: list[str], message: str) -> None:
    data = write_pairs(tmp_path / "pairs.jsonl", 2)
    with pytest.raises(UserError, match=message) as caught:
        main([str(data), *flags], prog="medpref bench pairs", suite="pairs")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, server: str) -> None:
    data = write_pairs(tmp_path / "pairs.jsonl", 2)
    for output in (data, data / "out"):
        with pytest.raises(UserError, match=r"^--output: .*; name another folder$"):
            run(data, output, "--server", server)


def test_results_that_cannot_be_written_are_one_line(tmp_path: Path, server: str) -> None:
    data, output = write_pairs(tmp_path / "pairs.jsonl", 2), tmp_path / "out"
    (output / "table.md").mkdir(parents=True)
    with pytest.raises(JobError, match="cannot be written"):
        run(data, output, "--server", server, "--controls", "none")


def test_an_evaluation_in_which_nothing_is_scored_has_failed(tmp_path: Path, server: str) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps({"prompt": "Why?", "chosen": "Q", "rejected": "tea"}) + "\n")
    with pytest.raises(EvaluationFailed, match=r"nothing is scored: 1 group has no reward"):
        run(data, tmp_path / "out", "--server", server, "--model", "sick", "--controls", "none")
    results = read_results(tmp_path / "out")
    assert (results.overall, results.partial) == (None, True)


def test_ties_have_a_rule_of_their_own_in_rewardbench_2(tmp_path: Path, server: str) -> None:
    data = tmp_path / "test.jsonl"
    row = {"id": 1, "subset": "Math", "prompt": "What?", "chosen": ["a"], "rejected": ["b"] * 3}
    data.write_text(json.dumps(row | {"num_correct": 1, "total_completions": 4}) + "\n")
    with pytest.raises(UserError, match="RewardBench 2 has a rule of its own"):
        run(data, tmp_path / "o", "--server", server, "--ties", "half", suite="rewardbench2")
    assert not (tmp_path / "o").exists()  # told before anything is asked


@pytest.mark.parametrize(
    ("mode", "flags"),
    [
        pytest.param("ranking", [], id="as_the_scores_tell"),
        pytest.param(None, ["--judge-mode", "ranking"], id="as_told"),
    ],
)
def test_stored_scores_of_a_judge_have_the_rule_for_judges(
    tmp_path: Path, mode: str | None, flags: list[str]
) -> None:
    """An unreadable verdict counts a quarter, as RewardBench 2 says, and is not left out."""
    scores = tmp_path / "scores.jsonl"
    unreadable = ([None] * 4, ["unreadable_verdict: none"] * 4)
    verdicts = [([1.0, 0.0, 0.0, 0.0], [None] * 4), unreadable, unreadable]
    lines = [
        {"number": n, "subset": "Math", "ranks": [1, 2, 2, 2], "rewards": given, "errors": errors}
        for n, (given, errors) in enumerate(verdicts)
    ]
    scores.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if mode:
        (tmp_path / "scores.jsonl.json").write_text(json.dumps({"judge_mode": mode}))
    arguments = ["--scores", str(scores), "--output", str(tmp_path / "out"), *flags]
    assert main(arguments, prog="medpref bench rewardbench2", suite="rewardbench2") == 0
    results = read_results(tmp_path / "out")
    assert results.sections["Math"].score == pytest.approx(0.5)
    assert results.settings["judge_mode"] == "ranking"

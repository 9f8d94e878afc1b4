from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants as hub
from hypothesis import given
from hypothesis import strategies as st

from foundation.training import (
    TrainingError,
    closing_mean,
    require,
    require_model,
    silence_libraries,
    uses_bfloat16,
    whole_folder,
)

losses = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "model"
    with whole_folder(output) as folder:
        (folder / "weights").write_text("w")
        assert not output.exists()
    assert [file.name for file in output.iterdir()] == ["weights"]
    assert [entry.name for entry in output.parent.iterdir()] == ["model"]


def test_a_folder_never_appears_when_its_making_fails(tmp_path: Path) -> None:
    def make() -> None:
        with whole_folder(tmp_path / "model") as folder:
            (folder / "weights").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_making_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "weights").write_text("half")
    with whole_folder(tmp_path / "model") as folder:
        assert list(folder.iterdir()) == []


def test_a_folder_that_exists_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"output: .* exists"), whole_folder(tmp_path):
        pass


def test_nothing_and_no_model_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="pairs: there are none"):
        require([], "pairs")
    with pytest.raises(TrainingError, match=r"base: .* has no config.json"):
        require_model(tmp_path, "base")


@given(losses)
def test_the_closing_mean_lies_among_the_last_tenth(values: list[float]) -> None:
    tail = values[-max(1, len(values) // 10) :]
    mean = closing_mean([{"loss": value} for value in values], "loss")
    assert min(tail) - 1e-6 <= mean <= max(tail) + 1e-6


@given(losses)
def test_steps_that_did_not_log_a_value_do_not_count(values: list[float]) -> None:
    logged = [{"loss": value} for value in values]
    sparse = [entry for step in logged for entry in (step, {"learning_rate": 1.0})]
    assert closing_mean(sparse, "loss") == closing_mean(logged, "loss")
    assert math.isnan(closing_mean(sparse, "margin"))


def test_precision_is_what_was_asked_for() -> None:
    assert uses_bfloat16("bfloat16")
    assert not uses_bfloat16("float32")


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_auto_precision_follows_the_cpu(
    monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bfloat16})
    assert uses_bfloat16("auto") is has_bfloat16


def test_libraries_are_silent_and_report_nothing_home() -> None:
    silence_libraries()
    assert not logging.getLogger("trl.trainer.dpo_trainer").isEnabledFor(logging.WARNING)
    assert hub.HF_HUB_DISABLE_TELEMETRY

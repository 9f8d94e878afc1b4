from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from corpora.conversation import Conversation
from corpora.preference import Pair
from corpora.world import RewardPairs
from foundation.progress import TrainingProgress
from foundation.training import TrainingError
from reward_server.training import (
    RewardTrainingResult,
    accuracy,
    length_only_accuracy,
    train_reward_model,
)
from reward_server.training_config import RewardTrainingConfig

CONFIG = RewardTrainingConfig(
    learning_rate=3e-3, epochs=6, batch_size=8, precision="float32", max_length_tokens=64
)
ILLNESSES = ("a cold", "a cough", "a burn", "gout", "a sprain", "hay fever", "a rash", "a blister")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads gain nothing on models of this size, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(illness: str, question: str) -> Pair:
    """A preference that one word decides, and length does not."""
    return Pair(
        Conversation.ask(f"{question} {illness}?"),
        chosen=f"Rest helps {illness}.",
        rejected=f"Worry helps {illness}.",
    )


PAIRS = RewardPairs(
    train=[pair(illness, ask) for illness in ILLNESSES for ask in ("What helps", "What eases")],
    heldout=[pair(illness, "How do I treat") for illness in ILLNESSES],
)


@pytest.fixture(scope="module")
def trained(
    model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RewardTrainingResult]:
    folder = tmp_path_factory.mktemp("reward") / "model"
    return folder, train_reward_model(model_folder, PAIRS, CONFIG, folder, seed=0)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def is_equal(left: Path, right: Path) -> bool:
    ours, theirs = weights(left), weights(right)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_separable_preference_is_learned(trained: tuple[Path, RewardTrainingResult]) -> None:
    _, result = trained
    assert result.heldout_accuracy is not None
    assert result.heldout_accuracy > 0.9
    assert result.mean_margin is not None
    assert result.mean_margin > 0
    assert (result.train_pairs, result.heldout_pairs) == (len(PAIRS.train), len(PAIRS.heldout))


def test_the_saved_folder_gives_the_rewards_that_were_measured(
    trained: tuple[Path, RewardTrainingResult],
) -> None:
    folder, result = trained
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()

    def reward(item: Pair, answer: str) -> float:
        messages = [*item.conversation.to_dicts(), {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(messages, return_tensors="pt")
        with torch.inference_mode():
            return float(model(**ids).logits.item())

    margins = [reward(item, item.chosen) - reward(item, item.rejected) for item in PAIRS.heldout]
    assert result.mean_margin == pytest.approx(sum(margins) / len(margins), abs=1e-4)
    assert result.heldout_accuracy == accuracy(margins)


def test_the_metrics_lie_beside_the_weights(trained: tuple[Path, RewardTrainingResult]) -> None:
    folder, result = trained
    assert json.loads((folder / "reward_metrics.json").read_text()) == asdict(result)
    assert (folder / "chat_template.jinja").is_file()


def test_equal_seeds_give_equal_weights(
    model_folder: Path, tmp_path: Path, trained: tuple[Path, RewardTrainingResult]
) -> None:
    train_reward_model(model_folder, PAIRS, CONFIG, tmp_path / "model", seed=0)
    assert is_equal(trained[0], tmp_path / "model")


def test_the_rewards_that_pairs_carry_do_not_matter(
    model_folder: Path, tmp_path: Path, trained: tuple[Path, RewardTrainingResult]
) -> None:
    """TRL would take a margin column into its loss."""
    scored = [replace(item, chosen_reward=9.0, rejected_reward=1.0) for item in PAIRS.train]
    pairs = RewardPairs(train=scored, heldout=[])
    train_reward_model(model_folder, pairs, CONFIG, tmp_path / "model", seed=0)
    assert is_equal(trained[0], tmp_path / "model")


def test_without_held_out_pairs_nothing_is_claimed(model_folder: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 1.0})
    pairs = RewardPairs(train=PAIRS.train, heldout=[])
    result = train_reward_model(model_folder, pairs, config, tmp_path / "model", seed=0)
    assert result.heldout_accuracy is result.length_only_accuracy is result.mean_margin is None


def test_pairs_over_the_limit_are_left_out_and_not_counted(
    model_folder: Path, tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"epochs": 1.0})
    long = replace(PAIRS.train[0], chosen="Rest helps a lot. " * 40)
    pairs = RewardPairs(train=[*PAIRS.train, long], heldout=[])
    result = train_reward_model(model_folder, pairs, config, tmp_path / "model", seed=0)
    assert result.train_pairs == len(PAIRS.train)


def test_a_crash_on_the_way_leaves_nothing_behind(model_folder: Path, tmp_path: Path) -> None:
    def crash(progress: TrainingProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_reward_model(
            model_folder, PAIRS, CONFIG, tmp_path / "model", seed=0, on_progress=crash
        )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"base: .* has no config.json"):
        train_reward_model(tmp_path, PAIRS, CONFIG, tmp_path / "model", seed=0)


def test_no_pairs_are_refused(model_folder: Path, tmp_path: Path) -> None:
    pairs = RewardPairs(train=[], heldout=PAIRS.heldout)
    with pytest.raises(TrainingError, match=r"pairs\.train: there are none"):
        train_reward_model(model_folder, pairs, CONFIG, tmp_path / "model", seed=0)


texts = st.text(min_size=1, max_size=20)
some_pairs = st.lists(
    st.builds(Pair, st.just(Conversation.ask("Why?")), chosen=texts, rejected=texts), min_size=1
)


@given(some_pairs)
def test_swapping_every_pair_turns_the_length_rule_around(pairs: list[Pair]) -> None:
    forth: Any = length_only_accuracy(pairs)
    back: Any = length_only_accuracy([item.swap() for item in pairs])
    assert forth + back == pytest.approx(1.0)


@given(st.lists(st.floats(-5, 5), min_size=1))
def test_accuracy_depends_on_signs_alone(margins: list[float]) -> None:
    assert accuracy(margins) == accuracy([(margin > 0) - (margin < 0) for margin in margins])

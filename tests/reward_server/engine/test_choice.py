from __future__ import annotations

import math
from typing import Any, cast

import pytest
import structlog
import torch

from reward_server.engine.attention import NAME
from reward_server.engine.choice import (
    Chosen,
    check_inputs,
    choose_engine,
    choose_padding,
    relative_difference,
)
from reward_server.engine.last_layer import RowsOnly
from reward_server.engine.readout import LastToken
from reward_server.errors import ServerStartError
from reward_server.specs import EngineChoice
from reward_server.tokens import TokenInput
from tests.reward_server.engine.small import (
    Ids,
    firsts,
    make_classifier,
    plain_rewards,
    token_inputs,
)

PROMPT: Ids = tuple(range(10, 40))
INPUTS: list[Ids] = [(*PROMPT, 50), (*PROMPT, 60, 61), (70, 71, 72), (*PROMPT, 50)]


def choose(model: Any, choice: EngineChoice = "auto", *, max_length: int = 128) -> Chosen:
    readout = LastToken(model.score.weight, model.score.bias)
    return choose_engine(model.base_model, readout, choice, max_length=max_length, batch_tokens=512)


def rewards(chosen: Chosen) -> list[float]:
    return firsts(chosen.engine.forward(token_inputs(INPUTS)))


class Counting(torch.nn.Module):
    """Adds something that depends on the place in the sequence, as no packed model may."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        places = torch.arange(hidden_BTD.shape[1], dtype=hidden_BTD.dtype)
        mixed: torch.Tensor = self.inner(hidden_BTD) + 0.05 * places[:, None]
        return mixed


class Mixing(torch.nn.Module):
    """Carries something from a token to the next one past attention."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.inner(hidden_BTD)
        return mixed + torch.nn.functional.pad(hidden_BTD, (0, 0, 1, 0))[:, :-1]


class Failing(torch.nn.Module):
    """Fails unless the sequence is short."""

    def __init__(self, inner: torch.nn.Module, longest: int) -> None:
        super().__init__()
        self.inner = inner
        self.longest = longest

    def forward(self, hidden_BTD: torch.Tensor) -> torch.Tensor:
        if hidden_BTD.shape[1] > self.longest:
            raise RuntimeError("too\nlong")
        return cast(torch.Tensor, self.inner(hidden_BTD))


def broken(kind: type[torch.nn.Module], *arguments: Any) -> Any:
    model = make_classifier("llama")
    layer = model.base_model.layers[0]
    layer.mlp = kind(layer.mlp, *arguments)
    return model


@pytest.mark.parametrize("kind", [Counting, Mixing])
def test_a_model_that_cannot_be_packed_is_caught_by_the_self_check(
    kind: type[torch.nn.Module],
) -> None:
    model = broken(kind)
    before = plain_rewards(model, INPUTS)
    with structlog.testing.capture_logs() as logs:
        chosen = choose(model)
    assert chosen.engine.name == "padded"
    assert "packed hidden states differ from plain ones" in (chosen.reason or "")
    assert rewards(chosen) == pytest.approx(before, abs=1e-4)
    (event,) = [each for each in logs if each["event"] == "engine.fell_back"]
    assert event["log_level"] == "warning"
    assert event["reason"] == chosen.reason


def test_a_model_that_was_tried_and_not_packed_is_as_it_was() -> None:
    model = broken(Counting)
    before = plain_rewards(model, INPUTS)
    names = list(model.state_dict())
    choose(model)
    assert plain_rewards(model, INPUTS) == before
    assert list(model.state_dict()) == names
    assert model.config._attn_implementation == "eager"


def test_a_model_whose_packed_forward_fails_is_padded() -> None:
    model = broken(Failing, 100)  # the packed sequence of the self-check is longer
    before = plain_rewards(model, INPUTS)
    chosen = choose(model)
    assert chosen.engine.name == "padded"
    assert chosen.reason == "its packed forward failed: too long"
    assert rewards(chosen) == pytest.approx(before, abs=1e-4)


def test_a_model_that_cannot_compute_at_all_is_refused_in_one_line() -> None:
    with pytest.raises(ServerStartError, match=r"^model: its forward pass fails: too long$"):
        choose(broken(Failing, 1))


def test_packing_that_is_asked_for_and_impossible_stops_the_server() -> None:
    with pytest.raises(ServerStartError, match=r"engine: packed is not possible: .*differ"):
        choose(broken(Counting), "packed")
    with pytest.raises(ServerStartError, match="cannot be replaced; leave it at auto"):
        choose(make_classifier("bloom"), "packed")


def test_padding_that_is_asked_for_is_no_fault() -> None:
    model = make_classifier("llama")
    expected = plain_rewards(model, INPUTS)
    with structlog.testing.capture_logs() as logs:
        chosen = choose(model, "padded")
    assert (chosen.engine.name, chosen.reason) == ("padded", "the settings ask for it")
    assert logs == []
    assert rewards(chosen) == pytest.approx(expected, abs=1e-4)
    assert model.config._attn_implementation == "eager"


def test_a_self_check_that_holds_is_told() -> None:
    with structlog.testing.capture_logs() as logs:
        choose(make_classifier("llama"))
    (event,) = logs
    assert event["event"] == "engine.self_checked"
    assert event["relative_difference"] < 1e-5


def test_a_packed_model_may_be_chosen_for_again() -> None:
    model = make_classifier("llama")
    expected = plain_rewards(model, INPUTS)
    choices: list[EngineChoice] = ["auto", "padded", "packed", "auto"]
    for choice in choices:
        chosen = choose(model, choice)
        assert chosen.engine.name == ("padded" if choice == "padded" else "packed")
        assert rewards(chosen) == pytest.approx(expected, abs=1e-4)
    assert model.config._attn_implementation == NAME


def test_a_head_of_another_kind_does_not_hide_a_difference() -> None:
    model = broken(Counting)
    torch.nn.init.zeros_(model.score.weight)  # rewards alone would all agree
    assert choose(model).engine.name == "padded"


def test_half_precision_is_packed_in_spite_of_its_rounding() -> None:
    model = make_classifier("llama").bfloat16()
    expected = plain_rewards(model, INPUTS)
    chosen = choose(model)
    assert chosen.engine.name == "packed"
    assert rewards(chosen) == pytest.approx(expected, abs=0.2)


def test_broken_weights_do_not_pass_for_agreement() -> None:
    model = make_classifier("llama")
    model.base_model.norm.weight.data[0] = math.nan
    chosen = choose(model)
    assert chosen.engine.name == "padded"
    assert "differ" in (chosen.reason or "")


def test_a_narrow_last_layer_leaves_no_trace_in_the_weights() -> None:
    model = make_classifier("llama")
    names = list(model.state_dict())
    chosen = choose(model)
    last = model.base_model.layers[-1]
    narrowed = (last.mlp, last.self_attn.q_proj, last.self_attn.o_proj)
    assert all(isinstance(module, RowsOnly) for module in narrowed)
    rewards(chosen)
    choose(model, "padded")
    assert list(model.state_dict()) == names


@pytest.mark.parametrize("max_length", [2, 7, 30, 10_000])
def test_the_self_check_stays_within_the_models_length(max_length: int) -> None:
    inputs = check_inputs(300, max_length=max_length)
    assert all(1 <= len(item.ids) <= max_length for item in inputs)
    assert all(0 <= token < 300 for item in inputs for token in item.ids)
    assert len({item.ids for item in inputs}) < len(inputs)  # equal ones are among them
    assert choose(make_classifier("llama"), max_length=max_length).engine.name == "packed"


def test_the_difference_is_that_of_the_worst_input() -> None:
    assert relative_difference([(3.0, 4.0), (1.0, 0.0)], [(3.0, 4.0), (1.0, 0.5)]) == 0.5
    assert relative_difference([(0.0, 0.0)], [(0.0, 0.0)]) == 0.0
    assert relative_difference([(1.0, 1.0)], [(1.0, math.nan)]) == math.inf


SAMPLES = [TokenInput((1, 7, 2)), TokenInput((1, *range(20, 40), 2))]


def test_an_encoder_is_batched_and_says_why_it_is_not_packed() -> None:
    with structlog.testing.capture_logs() as logs:
        chosen = choose_padding(make_classifier("bert"), SAMPLES, batch_tokens=512)
    assert chosen.reason == "its pooling and head are its own"
    assert logs == []


def test_a_model_that_reads_padding_says_so_in_the_log() -> None:
    with structlog.testing.capture_logs() as logs:
        chosen = choose_padding(make_classifier("fnet"), SAMPLES, batch_tokens=512)
    assert "and padding changes its logits by" in (chosen.reason or "")
    assert [each["event"] for each in logs] == ["engine.computes_alone"]


def test_a_whole_model_that_fails_is_refused_in_one_line() -> None:
    with pytest.raises(ServerStartError, match=r"^model: its forward pass fails: "):
        choose_padding(make_classifier("bert"), [TokenInput((5,) * 500)], batch_tokens=512)

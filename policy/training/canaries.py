"""Canaries: the trainer's own logprobs of a few responses, for a deployment to be held against.

Always plain float32 forwards in evaluation mode, one response at a time, without padding and
without the autocast that the training may have used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from datasets import Dataset
from peft import PeftModel

from policy.deploy import Canary

MAX_RESPONSE_TOKENS = 64
"""Enough to tell two adapters apart, short enough to be checked while requests run."""


def record_canaries(model: PeftModel, rows: Dataset, count: int) -> list[Canary]:
    """Scores ``count`` responses, spread evenly over the rows, with the adapter and without it.

    Args:
        model: with the trained adapter active.
        rows: what a TRL trainer made of the data: ``prompt_ids`` with ``chosen_ids`` or
            ``completion_ids``, the end mark among them.
        count: how many; fewer where there are fewer rows.
    """
    model.eval()
    # Not through the adapter's own forward: accelerate may have put an autocast around that one.
    network = model.get_base_model()
    return [_canary(model, network, *_ids(row)) for row in _spread(rows, count)]


def _spread(rows: Dataset, count: int) -> Iterator[Mapping[str, Sequence[int]]]:
    taken = min(count, len(rows))
    return (rows[index * len(rows) // taken] for index in range(taken))


def _ids(row: Mapping[str, Sequence[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    response = row["chosen_ids"] if "chosen_ids" in row else row["completion_ids"]
    return tuple(row["prompt_ids"]), tuple(response[:MAX_RESPONSE_TOKENS])


def _canary(
    model: PeftModel, network: torch.nn.Module, prompt: tuple[int, ...], response: tuple[int, ...]
) -> Canary:
    logprobs = _logprobs(network, prompt, response)
    with model.disable_adapter():
        base_logprobs = _logprobs(network, prompt, response)
    return Canary(prompt, response, logprobs, base_logprobs)


@torch.inference_mode()
def _logprobs(
    network: torch.nn.Module, prompt: tuple[int, ...], response: tuple[int, ...]
) -> tuple[float, ...]:
    device = next(network.parameters()).device
    ids_T = torch.tensor(prompt + response, device=device)
    logits_TV = network(input_ids=ids_T[None], use_cache=False).logits[0].float()
    # The logits at one position speak of the token at the next.
    predicted_TV = logits_TV[len(prompt) - 1 : -1].log_softmax(-1)
    logprobs_T = predicted_TV.gather(-1, ids_T[len(prompt) :, None])[:, 0]
    return tuple(logprobs_T.tolist())

"""The plan of a run before it starts: models, processes, GPUs and memory. Pure but for headers.

Memory is what the weights and the optimizer must have; activations and the key–value cache come on
top and are bounded by the settings named beside them. A model that is on the hub only is counted by
``parameters_billion`` of its section; nothing is fetched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from loop.config import Recipe
from policy.training.config import ScratchConfig

GIB = 2**30


@dataclass(frozen=True, slots=True)
class PlannedProcess:
    """One process of a run. ``memory_bytes`` is ``None`` where the model's size is not known."""

    name: str
    model: str
    gpus: float
    memory_bytes: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe resolves to."""

    recipe: Recipe
    processes: tuple[PlannedProcess, ...]

    @property
    def gpus(self) -> float:
        return sum(process.gpus for process in self.processes)

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def make_plan(recipe: Recipe) -> Plan:
    """Lays out the processes of a recipe."""
    policy, reward, tuning = recipe.policy, recipe.reward, recipe.preference
    base_size = _policy_parameters(recipe)
    base = policy.model or "made here: [policy.scratch] and [policy.sft]"
    reward_model = reward.model or "trained here from the base policy: [reward.training]"
    reward_size = _parameters(reward.model, reward.parameters_billion) or (
        base_size if reward.training else None
    )
    adapter = (
        f"LoRA r={tuning.lora.rank}, batch {tuning.batch_size}, {tuning.max_length_tokens} tokens,"
        f" reference: {tuning.reference}"
    )
    return Plan(
        recipe,
        (
            PlannedProcess(
                "policy server",
                policy.url or base,
                0 if policy.url else policy.gpus,
                _weights(base_size, policy.engine.dtype),
                f"vLLM, {policy.engine.dtype}, {_cache_note(recipe)}",
            ),
            PlannedProcess(
                "reward server",
                reward.url or reward_model,
                0 if reward.url else reward.gpus,
                _weights(reward_size, reward.dtype),
                f"{reward.dtype}, activations of one batch on top",
            ),
            PlannedProcess(
                "trainer",
                base,
                recipe.cluster.trainer_gpus,
                _weights(base_size, "float32"),  # under autocast the weights stay in float32
                f"{tuning.loss}, {adapter}; activations on top",
            ),
        ),
    )


def _lines(plan: Plan) -> Iterator[str]:
    recipe = plan.recipe
    data, sampling = recipe.data, recipe.sampling
    candidates = data.round_questions * sampling.candidates
    pairs = data.round_questions * recipe.pairs.per_group
    tuning = recipe.preference
    steps = math.ceil(pairs * tuning.epochs / (tuning.batch_size * tuning.accumulation_steps))
    yield f"run        {recipe.name}: {recipe.rounds} rounds, seed {recipe.seed}"
    yield f"data       {data.world}{f' from {data.path}' if data.path else ''}"
    yield (
        f"a round    {data.round_questions} questions × {sampling.candidates} candidates ="
        f" {candidates} to sample and score; at most {pairs} pairs, {steps} optimizer steps"
    )
    yield (
        f"gate       {data.heldout_questions} held-out questions ×"
        f" {sampling.heldout_candidates}, lower bound of the {recipe.gate.confidence:.0%} interval"
        f" above {recipe.gate.min_win_rate:g}"
    )
    address = recipe.cluster.ray_address or "Ray started for this run"
    yield f"cluster    {address}, {plan.gpus:g} GPUs"
    for process in plan.processes:
        memory = "unknown: set parameters_billion"
        if process.memory_bytes is not None:
            memory = f"at least {process.memory_bytes / GIB:.2f} GiB"
        yield ""
        yield process.name
        yield f"  model    {process.model}"
        yield f"  GPUs     {process.gpus:g}"
        yield f"  memory   {memory}"
        yield f"  settings {process.note}"


def _cache_note(recipe: Recipe) -> str:
    engine = recipe.policy.engine
    if recipe.policy.gpus:
        return f"fills {engine.gpu_memory_utilization:.0%} of each GPU"
    return f"{engine.kv_cache_gib} GiB of keys and values on top"


def _weights(parameters: float | None, dtype: str) -> float | None:
    if parameters is None:
        return None
    return parameters * (4 if dtype == "float32" else 2)


def _policy_parameters(recipe: Recipe) -> float | None:
    policy = recipe.policy
    if policy.model is None and policy.scratch is not None:
        return _scratch_parameters(policy.scratch)
    return _parameters(policy.model, policy.parameters_billion)


def _scratch_parameters(shape: ScratchConfig) -> int:
    """Weights of a Llama with tied embeddings and as many key–value heads as heads."""
    attention = 4 * shape.hidden_size**2
    feed_forward = 3 * shape.hidden_size * shape.intermediate_size
    norms = 2 * shape.hidden_size
    embeddings = shape.vocabulary_size * shape.hidden_size
    return embeddings + shape.layers * (attention + feed_forward + norms) + shape.hidden_size


def _parameters(model: str | None, billion: float | None) -> float | None:
    if billion is not None:
        return billion * 1e9
    if model is None or not Path(model).is_dir():
        return None
    return sum(map(_stored_values, Path(model).glob("*.safetensors"))) or None


def _stored_values(file: Path) -> int:
    """Numbers in a safetensors file, from its header: 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    header.pop("__metadata__", None)
    return sum(math.prod(tensor["shape"]) for tensor in header.values())

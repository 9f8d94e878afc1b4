"""How vLLM is started: its command line, its environment, and what must hold before.

Everything that knows a flag or a variable of vLLM is here, for its CPU and its CUDA build, from
0.25 on, and its faults with what avoids them. Pure, but for those that look at the machine
(:func:`check_setup`, :func:`is_cpu_build`) and :func:`write_identity_adapter`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from foundation.process import port_in_use
from policy.config import HOST, HUB_ID, PolicyServerConfig
from policy.errors import PolicySetupError
from policy.protocol import BASE

BARE = "bare"
"""The name of the model itself where the base is served as an adapter."""


def command(
    config: PolicyServerConfig, *, adapters: Mapping[str, Path] | None = None, on_cpu: bool
) -> list[str]:
    """The command line that starts vLLM; the console script of its CPU build does not work.

    Faults of vLLM 0.32 that are worked around here:

    - An adapter on the output head makes prompt logprobs wrong on a GPU, and on a CPU kills the
      engine when anything else is in the batch. ``--lora-target-modules`` leaves the head out.
    - On a CPU, a request without adapter in a batch with adapters is given the one in the last
      slot. So no request is without: the base is served through :func:`write_identity_adapter`.
    - On a CPU, the random generator of a seeded request is rewound after half a prompt, which it
      does not support, and the engine dies. ``--no-enable-chunked-prefill`` keeps prompts whole.
    """
    if on_cpu:
        adapters = {BASE: identity_adapter(config), **(adapters or {})}
    arguments: dict[str, object] = {
        "model": config.model,
        "served-model-name": BARE if on_cpu else BASE,
        "host": HOST,
        "port": config.port,
        "dtype": config.dtype,
        "max-num-seqs": config.max_num_seqs,
        "max-loras": config.max_loras + on_cpu,
        "max-lora-rank": config.max_lora_rank,
        "logprobs-mode": "raw_logprobs",
        "shutdown-timeout": config.drain_seconds,
        "uvicorn-log-level": "warning",
    }
    if config.max_model_len is not None:
        arguments["max-model-len"] = config.max_model_len
    if config.chat_template is not None:
        arguments["chat-template"] = config.chat_template
    if not on_cpu:
        arguments["gpu-memory-utilization"] = config.gpu_memory_utilization
        arguments["tensor-parallel-size"] = config.tensor_parallel_size
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *(part for name, value in arguments.items() for part in (f"--{name}", str(value))),
        *("--enable-lora", "--lora-target-modules", *config.lora_target_modules),
        *(["--no-enable-chunked-prefill"] if on_cpu else []),
        *(["--enforce-eager"] if config.eager or (config.eager is None and on_cpu) else []),
        *_adapter_arguments(adapters or {}),
    ]


def environment(config: PolicyServerConfig, *, on_cpu: bool) -> dict[str, str]:
    """What vLLM reads from its environment only.

    Threads stay as vLLM binds them on a CPU: one per core, and one core left for its scheduler and
    whoever shares the machine. Unbound, they spin on every core and starve both.
    """
    variables = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
    }
    if Path(config.model).is_dir():
        variables["HF_HUB_OFFLINE"] = "1"
    if on_cpu:
        variables["VLLM_CPU_KVCACHE_SPACE"] = str(config.kv_cache_gib)
        if config.eager is not False:
            # Eager mode still compiles how it gathers logprobs: seconds, and a C++ compiler.
            variables["TORCH_COMPILE_DISABLE"] = "1"
    return variables


def identity_adapter(config: PolicyServerConfig) -> Path:
    """The folder of the adapter that changes nothing, beside the log file."""
    return config.log_file.parent / "identity-adapter"


def write_identity_adapter(config: PolicyServerConfig) -> None:
    """Writes the adapter that changes nothing: its one weight is of a layer that no model has.

    vLLM asks of that layer only that its last name is one that adapters may change.
    """
    folder = identity_adapter(config)
    folder.mkdir(parents=True, exist_ok=True)
    layer = f"base_model.model.identity.{config.lora_target_modules[0]}"
    nothing = np.zeros((1, 1), dtype=np.float32)
    weights = {f"{layer}.lora_A.weight": nothing, f"{layer}.lora_B.weight": nothing}
    save_file(weights, folder / "adapter_model.safetensors")
    target = config.lora_target_modules[:1]
    settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": target}
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")


def check_setup(config: PolicyServerConfig, *, adapters: Mapping[str, Path] | None = None) -> None:
    """Finds what would make the server fail half a minute later.

    Raises:
        PolicySetupError: naming the field, its value and the fix.
    """
    _check_model(config.model)
    if config.chat_template is not None and not config.chat_template.is_file():
        raise PolicySetupError(f"chat_template: {config.chat_template}: no such file")
    for name, path in (adapters or {}).items():
        _check_adapter(name, path)
    if port_in_use(HOST, config.port):
        raise PolicySetupError(
            f"port: {config.port} is in use on {HOST}; stop what listens there, or give another one"
        )


def is_cpu_build() -> bool:
    """Whether the installed vLLM is one for CPUs.

    Raises:
        PolicySetupError: if there is none.
    """
    for distribution in distributions():
        if distribution.name == "vllm-cpu":
            return True
        if distribution.name == "vllm":
            return "cpu" in distribution.version
    raise PolicySetupError("vllm: not installed; install medpref[cpu] or medpref[gpu]")


def _check_model(model: str) -> None:
    folder = Path(model)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise PolicySetupError(
                f"model: {model}: no config.json in it; give the folder of a saved model"
            )
    elif not HUB_ID.fullmatch(model):
        raise PolicySetupError(
            f"model: {model}: no such folder; give a model folder, or organisation/name on the hub"
        )


def _check_adapter(name: str, path: Path) -> None:
    if name == BASE:
        raise PolicySetupError(f"adapter: {name}={path}: {BASE} is the model itself; rename it")
    if not (path / "adapter_config.json").is_file():
        raise PolicySetupError(
            f"adapter: {name}={path}: no adapter_config.json in it; give the folder of an adapter"
        )


def _adapter_arguments(adapters: Mapping[str, Path]) -> list[str]:
    modules = [
        json.dumps({"name": name, "path": str(path.absolute())}) for name, path in adapters.items()
    ]
    return ["--lora-modules", *modules] if modules else []

"""LoRA adapters of the policy: made, continued, frozen as a reference.

An adapter folder is PEFT's own format, safetensors only. Continuing means the same rank, scale and
layers: an adapter with another alpha would load without complaint and act with another strength.
"""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig, PeftModel, load_peft_weights, set_peft_model_state_dict

from foundation.training import TrainingError
from policy.training.config import LoraSettings

TRAINED = "default"
REFERENCE = "ref"
"""The name under which TRL looks for an adapter to take the reference logprobs from."""


def lora_config(settings: LoraSettings) -> LoraConfig:
    """PEFT's view of the settings: every linear layer but the output layer, no dropout."""
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def check_adapter(folder: Path, settings: LoraSettings) -> None:
    """Refuses an adapter that training cannot continue from.

    Raises:
        TrainingError: if files are missing, or rank or alpha differ from the settings.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).is_file():
            raise TrainingError(f"adapter: {folder} has no {name}; give a trained adapter's folder")
    saved = LoraConfig.from_pretrained(folder)
    for field, ours, theirs in (
        ("lora.rank", settings.rank, saved.r),
        ("lora.alpha", settings.alpha, saved.lora_alpha),
    ):
        if ours != theirs:
            raise TrainingError(
                f"{field}: {ours}, but {folder} was trained with {theirs}; use that"
            )


def load_adapter(model: PeftModel, folder: Path) -> None:
    """Puts saved weights into the adapter that is trained.

    Raises:
        TrainingError: if the adapter belongs to another architecture.
    """
    weights = load_peft_weights(str(folder), device="cpu")
    result = set_peft_model_state_dict(model, weights, adapter_name=TRAINED)
    missing = [key for key in result.missing_keys if f".{TRAINED}." in key]
    if result.unexpected_keys or missing:
        raise TrainingError(f"adapter: {folder} does not fit the base model; it has other layers")


def freeze_as_reference(model: PeftModel, folder: Path) -> None:
    """Adds a frozen copy that TRL takes the reference logprobs from, in place of the base."""
    model.load_adapter(str(folder), adapter_name=REFERENCE, is_trainable=False)
    model.set_adapter(TRAINED)

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from reward_server.fingerprint import fingerprint, identify
from reward_server.protocol import DType, Head

HEAD = Head(architecture="LlamaForSequenceClassification", num_labels=1, pooling="last_token")
OTHER_HEAD = HEAD.model_copy(update={"architecture": "Qwen3ForSequenceClassification"})


def fingerprint_of(
    folder: Path, *, template: str = "t", dtype: DType = "float32", head: Head = HEAD
) -> str:
    return fingerprint(identify(folder, template=template, dtype=dtype, head=head))


def test_a_fingerprint_is_16_hex_digits(model_folder: Path) -> None:
    assert re.fullmatch("[0-9a-f]{16}", fingerprint_of(model_folder))


def test_a_copied_folder_is_the_same_model(model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(model_folder, copy)
    assert fingerprint_of(copy) == fingerprint_of(model_folder)


@pytest.mark.parametrize(
    "file", ["model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"]
)
def test_one_changed_byte_makes_another_model(
    file: str, model_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "changed"
    shutil.copytree(model_folder, copy)
    content = bytearray((copy / file).read_bytes())
    content[-1] ^= 1
    (copy / file).write_bytes(content)
    assert fingerprint_of(copy) != fingerprint_of(model_folder)


def test_a_further_shard_makes_another_model(model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sharded"
    shutil.copytree(model_folder, copy)
    shutil.copy(copy / "model.safetensors", copy / "model-2.safetensors")
    assert fingerprint_of(copy) != fingerprint_of(model_folder)


@pytest.mark.parametrize(
    "changes",
    [{"template": "u"}, {"dtype": "bfloat16"}, {"head": OTHER_HEAD}],
    ids=["template", "dtype", "head"],
)
def test_template_dtype_and_head_count(changes: dict[str, Any], model_folder: Path) -> None:
    assert fingerprint_of(model_folder, **changes) != fingerprint_of(model_folder)


def test_a_file_that_decides_no_reward_does_not_count(model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "described"
    shutil.copytree(model_folder, copy)
    (copy / "README.md").write_text("A reward model.")
    assert fingerprint_of(copy) == fingerprint_of(model_folder)

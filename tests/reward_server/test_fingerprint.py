from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from reward_server.fingerprint import digest, fingerprint, identify
from reward_server.protocol import DType, Head, Identity

HEAD = Head(architecture="LlamaForSequenceClassification", num_labels=1, pooling="last_token")
OTHER_HEAD = HEAD.model_copy(update={"architecture": "Qwen3ForSequenceClassification"})


def fingerprint_of(
    folder: Path, *, template: str = "t", dtype: DType = "float32", head: Head = HEAD
) -> str:
    return fingerprint(
        identify(folder, tokenizer=folder, template=template, dtype=dtype, head=head)
    )


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


def test_code_beside_the_weights_makes_another_model(model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "coded"
    shutil.copytree(model_folder, copy)
    (copy / "modeling.py").write_text("class Model: ...")
    assert fingerprint_of(copy) != fingerprint_of(model_folder)


IDENTITY = Identity(weights="w", tokenizer="t", template="c", dtype="float32", head=HEAD)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "multi_objective"},
        {"adapter": "a"},
        {"members": {"one": "0123456789abcdef"}},
        {"parameters": {"beta": 0.1}},
        {"parameters": {"beta": 0.2}},
    ],
    ids=["kind", "adapter", "members", "parameters", "other parameters"],
)
def test_all_that_decides_a_reward_counts(changes: dict[str, Any]) -> None:
    changed = {fingerprint(IDENTITY.model_copy(update=changes)), fingerprint(IDENTITY)}
    assert len(changed) == 2


def test_what_is_at_its_default_does_not_count() -> None:
    # So that a field to come leaves the fingerprints of models without it alone.
    plain = IDENTITY.model_copy(update={"parameters": {}, "adapter": None})
    assert fingerprint(plain) == fingerprint(IDENTITY)


def test_a_fingerprint_stays_what_it_is_from_version_to_version() -> None:
    # Callers pin it and calibrations name it.
    assert fingerprint(IDENTITY) == "f9b599742afbba54"


def test_neither_order_nor_repetition_of_files_counts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    files = [tmp_path / "a", tmp_path / "b"]
    assert digest(files) == digest([*files[::-1], files[0], tmp_path / "missing", tmp_path])
    assert digest(files) != digest(files[:1])


def test_two_files_that_swap_their_contents_are_other_files(tmp_path: Path) -> None:
    for folder, left, right in (("one", "x", "y"), ("two", "y", "x")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_text(left)
        (tmp_path / folder / "b").write_text(right)
    one, two = (digest((tmp_path / folder).iterdir()) for folder in ("one", "two"))
    assert one != two

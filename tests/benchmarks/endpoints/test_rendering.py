"""Texts for wires that carry them: whatever adds special tokens, the model sees one BOS."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from benchmarks.endpoints.rendering import ChatText
from benchmarks.endpoints.wires.base import Refused
from benchmarks.errors import BenchmarkError
from corpora.conversation import MessageDict
from tests.reward_server.tiny import BOS, TEMPLATE, make_tokenizer

CHAT = [
    MessageDict(role="user", content="Nose?"),
    MessageDict(role="assistant", content="Rest."),
]
TURNS = "<|user|>Nose?<|end|><|assistant|>Rest.<|end|>"
BARE = TEMPLATE.removeprefix("{{ bos_token }}")


def tokenizer(template: str | None, *, adds_bos: bool) -> Any:
    made = make_tokenizer(template)
    if adds_bos:
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, made.bos_token_id)]
        )
    return made


@pytest.mark.parametrize("template", [TEMPLATE, BARE, BOS + TEMPLATE], ids=["one", "none", "two"])
@pytest.mark.parametrize("adds_bos", [True, False])
@pytest.mark.parametrize("gets_special_tokens", [True, False])
def test_the_model_sees_exactly_one_bos(
    template: str, adds_bos: bool, gets_special_tokens: bool
) -> None:
    made = tokenizer(template, adds_bos=adds_bos)
    text = ChatText(made, where="here").text(CHAT, gets_special_tokens=gets_special_tokens)
    ids = made.encode(text, add_special_tokens=gets_special_tokens)
    assert made.decode(ids) == BOS + TURNS


def test_a_tokenizer_without_bos_gets_none() -> None:
    made = tokenizer(BARE, adds_bos=False)
    made.bos_token = None
    assert ChatText(made, where="here").text(CHAT, gets_special_tokens=False) == TURNS


def test_what_the_template_refuses_is_refused() -> None:
    made = tokenizer("{{ raise_exception('no system turns') }}", adds_bos=False)
    with pytest.raises(Refused, match="rendering_failed: no system turns"):
        ChatText(made, where="here").text(CHAT, gets_special_tokens=False)


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path) -> None:
    make_tokenizer(None).save_pretrained(tmp_path)
    with pytest.raises(BenchmarkError, match=f"--tokenizer: {tmp_path} has no chat template; save"):
        ChatText.load(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"--tokenizer: .* cannot be loaded"):
        ChatText.load(tmp_path)
    with pytest.raises(BenchmarkError, match=r"--tokenizer: .*nowhere is no folder"):
        ChatText.load(tmp_path / "nowhere")


def test_transformers_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(BenchmarkError, match="--tokenizer: needs transformers"):
        ChatText.load(tmp_path)

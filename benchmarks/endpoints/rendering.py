"""Conversations as the texts that a reward model reads, for wires that carry rendered texts.

Whatever the template and the server's tokenizer add, the model sees exactly one BOS where its
tokenizer has one, as with this project's own server. Imports transformers when a tokenizer is
loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from jinja2 import TemplateError

from benchmarks.endpoints.wires.base import Refused
from benchmarks.errors import BenchmarkError
from corpora.conversation import MessageDict


class Tokenizer(Protocol):
    """What is used of a tokenizer of transformers."""

    bos_token: str | None
    bos_token_id: int | None
    chat_template: object

    def apply_chat_template(self, conversation: list[MessageDict], *, tokenize: bool) -> str: ...

    def encode(self, text: str) -> list[int]: ...


class ChatText:
    """Renders with the chat template of a tokenizer.

    Raises:
        BenchmarkError: if it has none.
    """

    def __init__(self, tokenizer: Tokenizer, *, where: str) -> None:
        if not tokenizer.chat_template:
            raise BenchmarkError(
                f"--tokenizer: {where} has no chat template; save one there as "
                "chat_template.jinja, or use a wire that carries messages"
            )
        self._tokenizer = tokenizer
        ids = tokenizer.encode("a")
        self._adds_bos = tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The tokenizer in ``folder``, which must be the reward model's.

        Raises:
            BenchmarkError: if there is none that can render conversations.
        """
        if not folder.is_dir():
            raise BenchmarkError(
                f"--tokenizer: {folder} is no folder; give that of the reward model's tokenizer"
            )
        try:
            from transformers import AutoTokenizer  # noqa: PLC0415 - heavy, and not always needed
        except ImportError:
            raise BenchmarkError(
                "--tokenizer: needs transformers, which is not installed; `pip install "
                "transformers`, or use a wire that carries messages"
            ) from None
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        except (ImportError, OSError, ValueError) as error:
            problem = " ".join(str(error).split())[:200]
            raise BenchmarkError(
                f"--tokenizer: {folder} cannot be loaded ({problem}); give the folder of the reward"
                " model's tokenizer"
            ) from None
        return cls(tokenizer, where=str(folder))

    def text(self, messages: Sequence[MessageDict], *, gets_special_tokens: bool) -> str:
        """The text of a conversation with its response.

        Args:
            messages: the last one is the response.
            gets_special_tokens: whether the server's tokenizer adds its own to the text.

        Raises:
            Refused: if the template does.
        """
        try:
            text = self._tokenizer.apply_chat_template(list(messages), tokenize=False)
        except TemplateError as error:
            raise Refused(f"rendering_failed: {' '.join(str(error).split())}") from None
        bos = self._tokenizer.bos_token
        if not bos:
            return text
        while text.startswith(bos):
            text = text.removeprefix(bos)
        return text if gets_special_tokens and self._adds_bos else bos + text

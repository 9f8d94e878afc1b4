"""Which reward model is this? An identity over file contents, and its short hash.

The identity covers the weights, the tokenizer's files, the chat template, the configuration, the
dtype of the forward pass and the head. Paths and file times do not count, so a copied folder is
the same model; a changed byte in any covered file is another one. Two equal fingerprints give the
same rewards; the software that computes them is not part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from reward_server.protocol import DType, Head, Identity

TOKENIZER_PATTERNS = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "*.tiktoken",
    "chat_template*",
)
"""Files that decide how text becomes ids, in the layouts that transformers reads."""


def identify(folder: Path, *, tokenizer: Path, template: str, dtype: DType, head: Head) -> Identity:
    """Reads every covered file of ``folder``, and of the tokenizer's folder, once."""
    return Identity(
        weights=digest(folder.glob("*.safetensors")),
        tokenizer=digest(file for p in TOKENIZER_PATTERNS for file in tokenizer.glob(p)),
        template=text_digest(template),
        config=digest([folder / "config.json", *folder.glob("*.py")]),
        dtype=dtype,
        head=head,
    )


def fingerprint(identity: Identity) -> str:
    """16 hex digits of the sha256 over the identity's JSON, without what is at its default."""
    return text_digest(identity.model_dump_json(exclude_defaults=True))[:16]


def text_digest(text: str) -> str:
    """Sha256 of a text in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest(files: Iterable[Path]) -> str:
    """Sha256 over the names and contents of files, in hex; what is no file is left out."""
    total = hashlib.sha256()
    for file in sorted({file for file in files if file.is_file()}):
        with file.open("rb") as content:
            content_digest = hashlib.file_digest(content, "sha256").hexdigest()
        total.update(f"{file.name}\0{content_digest}\n".encode())
    return total.hexdigest()

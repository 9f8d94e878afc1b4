"""The key file: who may ask the reward server for what. It holds no secret.

A secret is 256 random bits and stored as its plain sha256: salt and slowness protect what can be
guessed, and this cannot. The file is replaced whole or not at all, one change at a time, and only
its owner may write it. Light to import; knows nothing of requests.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Literal, Self

from filelock import FileLock
from pydantic import Field, ValidationError, model_validator

from foundation.errors import UserError
from foundation.settings import Settings
from reward_server.errors import ServerStartError

Scope = Literal["score", "admin"]

PREFIX = "mp_"
"""What every secret begins with, so that scanners for leaked secrets can know one."""

SECRET_BYTES = 32

FORBIDDEN_MODE = 0o026
"""Mode bits that a key file may not have: written by the group, read or written by others."""


class Key(Settings):
    """One caller."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """What logs and the audit call it."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hex digest of the secret."""

    scopes: tuple[Scope, ...] = Field(min_length=1)
    """What it opens."""

    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Tokens that it may have scored a minute; left out, there is no limit."""

    created: date
    """Day in UTC on which it was made."""

    expires: date | None = None
    """First day in UTC on which it opens nothing any more."""

    def is_expired(self, today: date) -> bool:
        """Whether it opens nothing on that day."""
        return self.expires is not None and today >= self.expires


class KeyFile(Settings):
    """Content of a key file."""

    keys: tuple[Key, ...]

    @model_validator(mode="after")
    def _tells_keys_apart(self) -> Self:
        for field in ("name", "sha256"):
            values = [getattr(key, field) for key in self.keys]
            if double := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"{field} {double[0]!r} stands there more than once; keep one")
        return self


def new_secret() -> str:
    """A secret that nobody had before."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def digest(secret: str) -> str:
    """Hex sha256 of a secret: what the file keeps of it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file.

    Raises:
        ServerStartError: if the file is missing, open to others, malformed, or tells two keys
            apart by nothing. Never quotes a value: somebody may have stored a secret there.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            content = file.read()
    except FileNotFoundError:
        raise ServerStartError(
            f"keys: {path}: no such file; make it with `medpref keys add {path} --name NAME`"
        ) from None
    except OSError as error:
        raise ServerStartError(
            f"keys: {path}: cannot be read ({error.strerror}); give a key file of this user"
        ) from None
    if mode & FORBIDDEN_MODE:
        raise ServerStartError(
            f"keys: {path}: mode {mode:o} lets others read it, or others than its owner write it; "
            f"run `chmod 600 {path}`"
        )
    try:
        return KeyFile.model_validate_json(content).keys
    except ValidationError as error:
        raise ServerStartError(f"keys: {path}: {_problem(error)}; mend the file") from None


def add_key(path: Path, key: Key) -> None:
    """Adds a key to a file, which is made if it is not there.

    Raises:
        UserError: if the name is taken or the file cannot be written.
        ServerStartError: if the file is no key file.
    """
    path = path.resolve()
    with _lock(path):
        keys = read_keys(path) if path.exists() else ()
        if key.name in {known.name for known in keys}:
            raise UserError(
                f"--name: {key.name!r} is in {path} already; take another name, or revoke it first"
            )
        _write(path, [*keys, key])


def revoke_key(path: Path, name: str) -> None:
    """Takes a key out of a file.

    Raises:
        UserError: if there is none of that name or the file cannot be written.
        ServerStartError: if the file is no key file.
    """
    path = path.resolve()
    read_keys(path)  # no lock file beside what is not there
    with _lock(path):
        keys = read_keys(path)
        kept = [key for key in keys if key.name != name]
        if len(kept) == len(keys):
            known = ", ".join(key.name for key in keys) or "none"
            raise UserError(f"--name: no key {name!r} in {path}; known there: {known}")
        _write(path, kept)


def _lock(path: Path) -> FileLock:
    # Without it a key that is added meanwhile could bring a revoked one back.
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: no folder there that can be written to; name another file")
    return FileLock(f"{path}.lock", mode=0o600)


def _write(path: Path, keys: Iterable[Key]) -> None:
    content = KeyFile(keys=tuple(keys)).model_dump_json(indent=2, exclude_none=True) + "\n"
    # A temporary file is private to its user from its first moment.
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(path)
    except OSError as error:
        Path(partial).unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error.strerror}); it is as it was") from None


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message

"""Who asks, what they may ask for, and how much.

Promises, each held by a test:

- a secret is compared with every key, in a time that tells nothing about any of them;
- a key file that changes counts from the next request on; one that cannot be read any more is
  told in the log, and the keys of before go on counting;
- over any span of time a caller gets at most one minute's tokens more than its rate allows;
- without keys the server listens on a loopback address or not at all.

Methods are called on the event loop. Knows nothing of HTTP beyond two headers and the paths.
"""

from __future__ import annotations

import base64
import hmac
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from ipaddress import ip_address
from pathlib import Path

import structlog

from reward_server.errors import (
    Forbidden,
    LimitExceeded,
    QuotaExceeded,
    ServerStartError,
    Unauthorized,
)
from reward_server.keyfile import Key, Scope, digest, read_keys

OPEN_PATHS = frozenset(
    {"/health", "/metrics", "/openapi.json", "/v2/health/live", "/v2/health/ready"}
)
"""What anybody may read: probes and scrapers seldom carry keys, and none of it tells what was
asked."""

ADMIN = "/v1/admin"

SLACK_TOKENS = 1e-6
"""How far rounding may let a bucket look emptier than it is."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is."""

    name: str
    scopes: frozenset[Scope]
    tokens_per_minute: int | None = None
    """Quota; ``None`` for no limit."""


ANONYMOUS = Caller("anonymous", frozenset({"score", "admin"}))
"""Everybody, where the server has no key file."""


def _today() -> date:
    return datetime.now(UTC).date()


class Keyring:
    """The keys that the server knows."""

    def __init__(self, path: Path | None, *, today: Callable[[], date]) -> None:
        self._path = path
        self._today = today
        # Before the keys: a change between the two is then seen as one.
        self._stamp = _stamp(path)
        self._keys = read_keys(path) if path else ()

    @classmethod
    def load(cls, path: Path | None, *, today: Callable[[], date] = _today) -> Keyring:
        """The keys of a file, or a keyring for which everybody is :data:`ANONYMOUS`.

        Args:
            path: the key file; ``None`` for no keys at all.
            today: the day in UTC, for tests.

        Raises:
            ServerStartError: if the file is missing, open to others or malformed.
        """
        return cls(path, today=today)

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key."""
        return self._path is not None

    def identify(self, header: str | None) -> Caller:
        """The caller behind ``Bearer SECRET`` or a bare ``SECRET``.

        Raises:
            Unauthorized: if there is no key, or it is unknown or expired.
        """
        if self._path is None:
            return ANONYMOUS
        self.reload_if_changed()
        if not header:
            raise Unauthorized("no key; send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        key = self._find(_secret(header))
        if key is None:
            raise Unauthorized("this key is not known here; ask the operator for one")
        if key.is_expired(self._today()):
            raise Unauthorized(f"key {key.name!r} expired on {key.expires}; ask for a new one")
        return Caller(key.name, frozenset(key.scopes), key.tokens_per_minute)

    def reload_if_changed(self) -> bool:
        """Reads the file again if it is not the one that was read last; whether it was used.

        Called by :meth:`identify`, since one ``stat`` takes microseconds and forgetting it would
        leave a revoked key open.
        """
        stamp = _stamp(self._path)
        if self._path is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._keys = read_keys(self._path)
        except ServerStartError as error:
            log.error("keys.reload_failed", reason=str(error))
            return False
        log.info("keys.reloaded", keys=len(self._keys))
        return True

    def _find(self, secret: str) -> Key | None:
        given, found = digest(secret), None
        for key in self._keys:  # all of them: stopping early would tell where the key stands
            if hmac.compare_digest(given, key.sha256):
                found = key
        return found


def credential(headers: Mapping[str, str]) -> str | None:
    """What a request shows for itself: ``authorization``, else ``x-api-key``."""
    return headers.get("authorization") or headers.get("x-api-key")


def scope_of(method: str, path: str) -> Scope | None:
    """The scope that a route needs; ``None`` where it is open to everybody.

    Whatever is not known to be open needs a key, routes that do not exist among it.
    """
    if path == ADMIN or path.startswith(f"{ADMIN}/"):
        return "admin"
    is_open = path in OPEN_PATHS or path.startswith("/health/")
    return None if is_open and method in ("GET", "HEAD") else "score"


def require(caller: Caller, scope: Scope) -> None:
    """Lets only callers with ``scope`` pass.

    Raises:
        Forbidden: naming the scope that is missing.
    """
    if scope not in caller.scopes:
        has = ", ".join(sorted(caller.scopes))
        raise Forbidden(f"key {caller.name!r} has scope {has}; this needs a key with {scope}")


def check_binding(host: str, *, has_keys: bool) -> None:
    """Keeps a server without keys to its own machine.

    Raises:
        ServerStartError: if others could reach it without a key.
    """
    if not has_keys and not is_loopback(host):
        raise ServerStartError(
            f"host: {host!r} lets other machines in, and without keys they may do everything; give "
            "--keys FILE (made with `medpref keys add FILE --name NAME`), or a loopback host such "
            "as 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address: 127.0.0.0/8, ``::1`` or ``localhost``."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        # A name may stand for anything tomorrow; this one is promised to loopback by RFC 6761.
        return host.lower() == "localhost"


@dataclass(slots=True)
class _Bucket:
    """Tokens that a caller has left, as of a time in seconds."""

    tokens: float
    time: float


class Quotas:
    """Token buckets, one a caller: they fill at the caller's rate and hold one minute of it."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, caller: Caller, tokens: int) -> None:
        """Charges ``tokens`` to a caller, all or nothing.

        Raises:
            QuotaExceeded: if the caller has fewer left; says in how many seconds it has enough.
            LimitExceeded: if not even a full bucket holds as many.
        """
        quota = caller.tokens_per_minute
        if quota is None:
            return
        if tokens > quota:
            raise LimitExceeded(
                f"{tokens} tokens, the quota of key {caller.name!r} is {quota} a minute; "
                "split the request"
            )
        bucket = self._filled(caller.name, quota)
        missing = tokens - bucket.tokens
        if missing > SLACK_TOKENS:
            raise QuotaExceeded(
                f"{tokens} tokens, key {caller.name!r} has {math.floor(bucket.tokens)} of "
                f"{quota} a minute left; come back later",
                retry_after=max(math.ceil((missing - SLACK_TOKENS) * 60 / quota), 1),
            )
        bucket.tokens -= tokens

    def give_back(self, caller: Caller, tokens: int) -> None:
        """Returns what was taken for a request that was not scored after all."""
        quota = caller.tokens_per_minute
        if quota is not None:
            bucket = self._filled(caller.name, quota)
            bucket.tokens = min(bucket.tokens + tokens, quota)

    def _filled(self, name: str, quota: int) -> _Bucket:
        """The bucket of a caller, filled up to now."""
        now = self._clock()
        bucket = self._buckets.setdefault(name, _Bucket(quota, now))
        bucket.tokens = min(bucket.tokens + (now - bucket.time) * quota / 60, quota)
        bucket.time = now
        return bucket


def _secret(header: str) -> str:
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == "basic":
        return _password(rest)
    return rest.strip() if scheme.lower() == "bearer" else header.strip()


def _password(encoded: str) -> str:
    """The password of basic credentials: what clients send for ``http://name:KEY@host``."""
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except ValueError:
        return ""
    return decoded.partition(":")[2]


def _stamp(path: Path | None) -> tuple[int, ...] | None:
    """What changes with the file: content, the file under the name, or its mode."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode

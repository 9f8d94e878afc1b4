"""Puts a trained version into the running server, and proves that it is the one that was trained.

An adapter is loaded under a fresh name, never over an old one: vLLM may answer from blocks of its
prefix cache that the old weights computed. Beside the adapter lie its *canaries*: a few responses
with the logprobs that the trainer computed in float32, with the adapter and without. The server has
to give the trainer's numbers back; else the adapter is unloaded and the served set is as before.

The verdict is pure (:func:`compare`); :class:`Deployer` adds the requests. Knows nothing of gates:
whether a version deserves to be served is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from policy.client import AsyncPolicyClient
from policy.config import Dtype
from policy.errors import DeployRefused, PolicyRequestFailed, PolicySetupError
from policy.protocol import BASE

FILE_NAME = "canaries.json"


@dataclass(frozen=True, slots=True)
class Canary:
    """One scored response: T tokens behind a prompt, with the trainer's own float32 numbers."""

    prompt_token_ids: tuple[int, ...]
    response_token_ids: tuple[int, ...]
    """T ids."""

    logprobs: tuple[float, ...]
    """T natural logarithms: each response token under the adapter."""

    base_logprobs: tuple[float, ...]
    """T natural logarithms: the same tokens with the adapter off."""

    def __post_init__(self) -> None:
        tokens = len(self.response_token_ids)
        if not tokens or {len(self.logprobs), len(self.base_logprobs)} != {tokens}:
            raise ValueError("canary: needs one logprob and one base_logprob per response token")


_CANARIES = TypeAdapter(list[Canary])


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far served logprobs may lie from the trainer's; all in nats per token."""

    max_abs: float
    """For the worst token."""

    mean_abs: float
    """For the mean over all tokens."""

    noise: float
    """Root mean square difference that arithmetic alone may cause. An adapter that changes the
    base's logprobs by less cannot be told from the base, and is not asked to be."""


FLOAT32 = Tolerance(max_abs=1e-3, mean_abs=1e-4, noise=1e-5)
"""A float32 server was seen to differ by 4e-6 at most; reordered sums of a big model may add up to
more, another adapter or another template differs by a hundred times the bound."""

BFLOAT16 = Tolerance(max_abs=0.15, mean_abs=0.05, noise=0.02)
"""A bfloat16 server was seen to differ by 0.03-0.07 at most, 0.016 in the mean and 0.02 in the root
mean square: a number of 8 significant bits carries no more."""


def tolerance_for(dtype: Dtype) -> Tolerance:
    """The tolerance for a server's number format; ``auto`` may be either, so the wide one."""
    return FLOAT32 if dtype == "float32" else BFLOAT16


@dataclass(frozen=True, slots=True)
class Verification:
    """What the canaries said. Differences are in nats per token."""

    tokens: int
    max_abs_difference: float
    mean_abs_difference: float
    distance_from_adapter: float
    """Root mean square difference between served and the trainer's adapter logprobs."""

    distance_from_base: float
    """Root mean square difference between served and the trainer's base logprobs."""

    adapter_effect: float
    """Root mean square difference between the trainer's adapter and base logprobs."""

    tolerance: Tolerance

    @property
    def verified(self) -> bool:
        """Whether the served weights are the trained ones.

        Each difference must be within bounds, and where the adapter matters at all, the served
        policy must be nearer to the adapter than to the base. Not a number is never within bounds.
        """
        return (
            self.max_abs_difference <= self.tolerance.max_abs
            and self.mean_abs_difference <= self.tolerance.mean_abs
            and (
                self.adapter_effect <= self.tolerance.noise
                or self.distance_from_adapter < self.distance_from_base
            )
        )


@dataclass(frozen=True, slots=True)
class Staged:
    """A version that is served and proved itself, and how long that took."""

    version: str
    seconds: float
    verification: Verification


def compare(
    expected: Sequence[Canary], served: Sequence[Sequence[float]], tolerance: Tolerance
) -> Verification:
    """Compares served logprobs with the trainer's.

    Args:
        expected: the canaries; at least one.
        served: for each canary, one logprob per response token, from the server.
        tolerance: bounds for the verdict.

    Raises:
        ValueError: if there is no canary, or numbers of canaries or tokens differ.
    """
    if not expected:
        raise ValueError("canaries: none given, so nothing can be proved")
    for canary, row in zip(expected, served, strict=True):
        if len(row) != len(canary.logprobs):
            raise ValueError(f"served: {len(row)} logprobs for {len(canary.logprobs)} tokens")
    now = list(chain.from_iterable(served))
    adapter = list(chain.from_iterable(canary.logprobs for canary in expected))
    base = list(chain.from_iterable(canary.base_logprobs for canary in expected))
    differences = [abs(a - b) for a, b in zip(now, adapter, strict=True)]
    return Verification(
        tokens=len(now),
        # max() passes over what is not a number; the sum in the mean does not.
        max_abs_difference=max(differences),
        mean_abs_difference=math.fsum(differences) / len(differences),
        distance_from_adapter=_rms(now, adapter),
        distance_from_base=_rms(now, base),
        adapter_effect=_rms(adapter, base),
        tolerance=tolerance,
    )


def write_canaries(adapter: Path, canaries: Sequence[Canary]) -> Path:
    """Writes ``canaries.json`` into an adapter's folder, whole or not at all; returns its path."""
    path = adapter / FILE_NAME
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps([asdict(canary) for canary in canaries]), encoding="utf-8")
    partial.replace(path)
    return path


def read_canaries(adapter: Path) -> list[Canary]:
    """Reads what :func:`write_canaries` wrote.

    Raises:
        PolicySetupError: if the file is missing, malformed or empty.
    """
    path = adapter / FILE_NAME
    try:
        canaries = _CANARIES.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise PolicySetupError(f"{path}: no such file; train the adapter again") from None
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise PolicySetupError(
            f"{path}: {field}: {problem['msg']}; train the adapter again"
        ) from None
    if not canaries:
        raise PolicySetupError(f"{path}: no canary in it; train the adapter again")
    return canaries


class Deployer:
    """Stages, promotes and withdraws versions of one running server."""

    def __init__(self, client: AsyncPolicyClient, tolerance: Tolerance) -> None:
        self._client = client
        self._tolerance = tolerance

    async def stage(self, version: str, adapter: Path) -> Staged:
        """Loads an adapter under its version name, beside all that is served, and verifies it.

        A version that is served already, after a resumed run for example, is verified as it is and
        never loaded again.

        Raises:
            DeployRefused: if it cannot be loaded or does not prove itself; the served set is as
                before, on this and any other error.
            PolicySetupError: if the adapter has no usable canaries.
            PolicyServerUnreachable: if there is no connection.
        """
        started = time.monotonic()
        canaries = await asyncio.to_thread(read_canaries, adapter)
        async with AsyncExitStack() as rollback:
            try:
                if version not in await self._client.versions():
                    rollback.push_async_callback(self.withdraw, version)
                    await self._client.load_adapter(version, adapter)
                verification = await self._verify(version, canaries)
            except PolicyRequestFailed as error:
                raise DeployRefused(f"version: {version} cannot be served: {error}") from error
            if not verification.verified:
                raise DeployRefused(_refusal(version, verification))
            rollback.pop_all()
        return Staged(version, time.monotonic() - started, verification)

    async def promote(self, version: str, *, keep: Collection[str] = ()) -> None:
        """Leaves only ``version``, ``keep`` and the base served; running requests finish.

        Raises:
            DeployRefused: if ``version`` is not served.
        """
        served = await self._client.versions()
        if version not in served:
            raise DeployRefused(f"version: {version} is not served; stage it first")
        for other in served:
            if other not in {BASE, version, *keep}:
                await self._client.unload_adapter(other)

    async def withdraw(self, version: str) -> None:
        """Stops serving a version; nothing happens if it is not served."""
        if version != BASE and version in await self._client.versions():
            await self._client.unload_adapter(version)

    async def _verify(self, version: str, canaries: Sequence[Canary]) -> Verification:
        served = await asyncio.gather(
            *(
                self._client.token_logprobs(
                    canary.prompt_token_ids, canary.response_token_ids, version=version
                )
                for canary in canaries
            )
        )
        return compare(canaries, served, self._tolerance)


def _rms(left: Sequence[float], right: Sequence[float]) -> float:
    squares = [(a - b) ** 2 for a, b in zip(left, right, strict=True)]
    return math.sqrt(math.fsum(squares) / len(squares))


def _refusal(version: str, verification: Verification) -> str:
    tolerance = verification.tolerance
    return (
        f"version: {version} does not give the trainer's logprobs: "
        f"max {verification.max_abs_difference:.2g} (at most {tolerance.max_abs:g}), "
        f"mean {verification.mean_abs_difference:.2g} (at most {tolerance.mean_abs:g}), "
        f"{verification.distance_from_adapter:.2g} from the adapter and "
        f"{verification.distance_from_base:.2g} from the base"
    )

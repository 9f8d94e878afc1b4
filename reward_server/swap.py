"""Putting a model into service: load on a thread, prove it, start it, switch the name to it.

What is served goes on answering meanwhile, and stays if the new model cannot be served. Ensembles
are made anew when a member changes, so their fingerprints follow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from reward_server.calibration import Calibration, require
from reward_server.canary import Canary, CanaryOutcome, CanaryWatch
from reward_server.config import RewardServerConfig
from reward_server.device_thread import on_passing_thread
from reward_server.drift import DriftMonitor
from reward_server.errors import ModelNotLoaded, ServerStartError
from reward_server.loading import Resources, load_scorer
from reward_server.protocol import ModelInfo
from reward_server.registry import Registry, Served
from reward_server.scorer import Scorer
from reward_server.specs import EnsembleSpec, ModelSpec

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

A = TypeVar("A", Calibration, Canary)
OnCanary = Callable[[str, CanaryOutcome], None]


class Swapper:
    """Serves models under names, one at a time."""

    def __init__(
        self,
        registry: Registry,
        resources: Resources,
        config: RewardServerConfig,
        *,
        on_canary: OnCanary = lambda name, outcome: None,
    ) -> None:
        self._registry = registry
        self._resources = resources
        self._config = config
        self._on_canary = on_canary
        self._turn = asyncio.Lock()

    async def serve(self, name: str, spec: ModelSpec) -> ModelInfo:
        """Serves ``spec`` under ``name``, in the place of what was there.

        Raises:
            ModelInUse: if the name is an alias.
            ModelNotLoaded: if it cannot be served; what was there is served on.
        """
        async with self._turn:
            self._registry.check_name(name)
            try:
                check_circle(name, spec, self._registry.dependants(name))
                served, *remade = await asyncio.to_thread(
                    on_passing_thread, lambda: self._load_all(name, spec)
                )
            except ServerStartError as error:
                raise ModelNotLoaded(str(error)) from None
            # No wait from here on: no request sees some of them without the others.
            self._put(served)
            still = {each.name for each in self._registry.dependants(name)}
            for dependant in remade:
                if dependant.name in still:
                    self._put(dependant)
        info = self._registry.info(served)
        log.info("model.served", model=name, kind=info.identity.kind, fingerprint=info.fingerprint)
        return info

    def load(self, scorers: dict[str, Scorer]) -> list[Served]:
        """Loads all models of the configuration, before there is an event loop.

        Args:
            scorers: models that are loaded already, by name.

        Raises:
            ServerStartError: one line naming the setting, its value and the fix.
        """
        return on_passing_thread(lambda: self._load_configured(scorers))

    def _load_configured(self, scorers: dict[str, Scorer]) -> list[Served]:
        loaded: list[Served] = []
        for name, spec in self._config.specs().items():
            members = {served.name: served.scorer for served in loaded}
            scorer = scorers.get(name) or load_scorer(name, spec, self._resources, members)
            loaded.append(self._watched(name, spec, scorer))
        return loaded

    def start(self, loaded: list[Served]) -> None:
        """Serves what :meth:`load` loaded; on the event loop."""
        for served in loaded:
            self._put(served)
        self._registry.set_aliases(self._config.aliases)

    def close(self) -> None:
        """Ends the thread that the models computed on; they must be closed before."""
        self._resources.device.close()

    def _put(self, served: Served) -> None:
        self._registry.check_name(served.name)
        if isinstance(served.spec, EnsembleSpec):
            served.members = [self._registry.find(member) for member in served.spec.members]
        served.scorer.start()
        if served.canary is not None:
            served.canary.start()
        self._registry.put(served)

    def _load_all(self, name: str, spec: ModelSpec) -> list[Served]:
        """The model, and anew the ensembles that are made of it."""
        made_of_it = [(each.name, each.spec) for each in self._registry.dependants(name)]
        members = {served.name: served.scorer for served in self._registry.all()}
        loaded = []
        for each, its_spec in [(name, spec), *made_of_it]:
            members[each] = load_scorer(each, its_spec, self._resources, members)
            loaded.append(self._watched(each, its_spec, members[each]))
        return loaded

    def _watched(self, name: str, spec: ModelSpec, scorer: Scorer) -> Served:
        """The model with the calibration and canaries that are made for it.

        A model swapped in for another one goes without those of its predecessor, loudly.
        """
        served = Served(name, spec, scorer)
        fingerprint = scorer.info.fingerprint
        is_swap = any(each.name == name for each in self._registry.all())
        calibration = self._artefact(Calibration, self._config.calibration_of(name))
        if calibration is not None and _fits(calibration, fingerprint, is_swap=is_swap):
            served.calibration = calibration
            served.drift = DriftMonitor(calibration)
        canary = self._artefact(Canary, self._config.canary_of(name))
        if canary is not None and _fits(canary, fingerprint, is_swap=is_swap):
            served.canary = CanaryWatch(
                canary,
                scorer.score,
                interval_seconds=self._config.canary_interval_seconds,
                on_outcome=lambda outcome: self._heed(name, outcome),
            )
        return served

    def _heed(self, name: str, outcome: CanaryOutcome) -> None:
        if not outcome.is_sound:
            log.error(
                "canary.unsound",
                model=name,
                max_abs_diff=outcome.max_abs_diff,
                tolerance=outcome.tolerance,
                failed=outcome.failed,
            )
        self._on_canary(name, outcome)

    @staticmethod
    def _artefact(kind: type[A], path: Path | None) -> A | None:
        return None if path is None else kind.load(path)


def check_circle(name: str, spec: ModelSpec, dependants: Sequence[Served]) -> None:
    """Refuses an ensemble that would be made of itself.

    Args:
        name: what it is to be called.
        spec: the new model.
        dependants: models that are made of what is served under that name.

    Raises:
        ServerStartError: naming the member and the fix.
    """
    if not isinstance(spec, EnsembleSpec):
        return
    circular = {name, *(each.name for each in dependants)}
    for member in spec.members:
        if member in circular:
            raise ServerStartError(
                f"members: {member!r} is made of {name!r} itself; leave it out or take another name"
            )


def _fits(artefact: Calibration | Canary, fingerprint: str, *, is_swap: bool) -> bool:
    try:
        require(artefact, fingerprint)
    except ServerStartError as error:
        if not is_swap:
            raise
        log.warning("artefact.left_out", reason=str(error))
        return False
    return True

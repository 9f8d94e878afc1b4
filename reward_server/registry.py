"""Named reward models and aliases, and the replacing of one under load.

Promises, each held by a test:

- a request scores on the model that was served when it arrived, to its end: a replaced model is
  closed only when nobody uses it any more;
- a name always leads to a model that takes requests, from the moment it is served;
- what others are made of, members of an ensemble, does not go before them.

Lives on the event loop. Knows nothing of how models are loaded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from reward_server.calibration import Calibration
from reward_server.canary import CanaryWatch
from reward_server.drift import DriftMonitor
from reward_server.errors import ModelInUse, UnknownModel
from reward_server.protocol import ModelInfo
from reward_server.scorer import Scorer
from reward_server.specs import ModelSpec


@dataclass(eq=False, slots=True)
class Served:
    """A model in service, with what watches it."""

    name: str
    spec: ModelSpec
    scorer: Scorer
    members: Sequence[Served] = ()
    calibration: Calibration | None = None
    drift: DriftMonitor | None = None
    canary: CanaryWatch | None = None
    _leases: int = 0
    _is_free: asyncio.Event = field(default_factory=asyncio.Event)

    def everything(self) -> list[Served]:
        """The model, and those it is made of, and so on down; one may stand there twice."""
        return [self, *(part for member in self.members for part in member.everything())]

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """Keeps the model, and those it is made of, open."""
        everything = self.everything()
        for each in everything:
            each._leases += 1
            each._is_free.clear()
        try:
            yield
        finally:
            for each in everything:
                each._leases -= 1
                if not each._leases:
                    each._is_free.set()

    async def aclose(self) -> None:
        """Closes the model when the last request on it has ended."""
        if self.canary is not None:
            await self.canary.aclose()
        if self._leases:
            await self._is_free.wait()
        await self.scorer.aclose()


class Registry:
    """What is served under which name."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}
        self._aliases: dict[str, str] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def find(self, name: str) -> Served:
        """The model of that name or alias.

        Raises:
            UnknownModel: if there is none.
        """
        served = self._served.get(self._aliases.get(name, name))
        if served is None:
            known = ", ".join(repr(each) for each in [*self._served, *self._aliases])
            raise UnknownModel(f"model: {name!r} is not served; this server has {known}")
        return served

    def all(self) -> list[Served]:
        """All models, in the order in which they came."""
        return list(self._served.values())

    def info(self, served: Served) -> ModelInfo:
        """What is told of a model."""
        aliases = tuple(sorted(alias for alias, to in self._aliases.items() if to == served.name))
        calibration = None if served.calibration is None else served.calibration.id
        return served.scorer.info.model_copy(
            update={"aliases": aliases, "calibration": calibration}
        )

    @property
    def is_ready(self) -> bool:
        """Whether every model would score a request."""
        return bool(self._served) and all(each.scorer.is_ready for each in self.all())

    def dependants(self, name: str) -> list[Served]:
        """Models that are made of the one of that name, inner ones before those made of them."""
        found = [each for each in self.all() if any(p.name == name for p in each.everything()[1:])]
        return sorted(found, key=lambda each: len(each.everything()))

    def check_name(self, name: str) -> None:
        """Holds a model's name against the aliases, which would hide the model.

        Raises:
            ModelInUse: if an alias has it.
        """
        if name in self._aliases:
            raise ModelInUse(
                f"model: {name!r} is an alias of {self._aliases[name]!r}; remove the alias first"
            )

    def put(self, served: Served) -> None:
        """Serves a model; one of the same name leaves when its requests have ended.

        The model must take requests already.

        Raises:
            ModelInUse: if its name is an alias.
        """
        self.check_name(served.name)
        before = self._served.get(served.name)
        self._served[served.name] = served
        if before is not None:
            self._close(before)

    def remove(self, name: str) -> None:
        """Takes a model out of service.

        Raises:
            UnknownModel: if there is none of that name.
            ModelInUse: if an alias or an ensemble needs it, or nothing would be left.
        """
        served = self.find(name)
        needed_by = [f"alias {a!r}" for a, to in self._aliases.items() if to == served.name]
        needed_by += [f"model {each.name!r}" for each in self.dependants(served.name)]
        if len(self._served) == 1:
            needed_by.append("the server: it is its only model")
        if name != served.name or needed_by:
            why = ", ".join(needed_by) or "it is an alias"
            raise ModelInUse(f"model: {name!r} cannot be removed ({why}); change that first")
        self._close(self._served.pop(name))

    def set_aliases(self, aliases: Mapping[str, str]) -> None:
        """Adds names for models, or points existing ones elsewhere, all at once.

        Raises:
            UnknownModel: if an alias leads to no model.
            ModelInUse: if an alias is the name of a model.
        """
        for alias, name in aliases.items():
            if name not in self._served:
                raise UnknownModel(f"alias {alias!r}: model {name!r} is not served")
            if alias in self._served:
                raise ModelInUse(f"alias {alias!r}: a model has this name")
        self._aliases.update(aliases)

    def remove_alias(self, alias: str) -> None:
        """Forgets an alias.

        Raises:
            UnknownModel: if there is none of that name.
        """
        if self._aliases.pop(alias, None) is None:
            raise UnknownModel(f"alias: {alias!r} is none")

    async def aclose(self) -> None:
        """Takes everything out of service, ensembles before their members."""
        await asyncio.gather(*self._closing)
        for served in reversed(self.all()):
            await served.aclose()

    def _close(self, served: Served) -> None:
        task = asyncio.create_task(served.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

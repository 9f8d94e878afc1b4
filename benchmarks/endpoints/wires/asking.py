"""How one server is asked over a wire: where to, which items together, in which bodies. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from benchmarks.endpoints.wires.base import DEFAULT, Item, Renders, Wire
from benchmarks.errors import BenchmarkError
from reward_server.protocol import ScoreGroup


@dataclass(frozen=True, slots=True)
class Asking:
    """A wire, and what its requests need besides items.

    Raises:
        BenchmarkError: if the wire has no place for the model's name.
    """

    wire: Wire[Any]
    model: str | None = None
    """What the server calls the model; ``None`` for the one that it takes then."""

    renderer: Renders | None = None
    """Gives the texts of a wire that carries them."""

    def __post_init__(self) -> None:
        if self.model is not None and self.wire.names_model == "nowhere":
            raise BenchmarkError(
                f"--model: {self.model}; this wire has no place for a model's name: leave it out"
            )

    def url(self, server: str) -> httpx.URL:
        """Where requests go: the wire's path behind ``server``, unless it is there already.

        Raises:
            BenchmarkError: if ``server`` is not the URL of a server.
        """
        try:
            url = httpx.URL(server)
        except httpx.InvalidURL:
            url = httpx.URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise BenchmarkError(
                f"--server: {server!r} is not the URL of a server; write it as http://host:port"
            )
        path = self.wire.path.format(model=quote(self.model or DEFAULT, safe=""))
        base = url.path.rstrip("/")
        url = url.copy_with(path=base if base.endswith(path) else base + path)
        if self.model is not None and self.wire.names_model == "query":
            return url.copy_merge_params({"model": self.model})
        return url

    def cut(
        self, groups: Iterable[ScoreGroup], groups_per_request: int
    ) -> Iterator[Sequence[Item]]:
        """The items of each request, in order, read from ``groups`` as they are asked for."""
        items: list[Item] = []
        count = 0
        for group in groups:
            own = [Item(group, place) for place in range(len(group.candidates))]
            if self.wire.carries == "candidate":
                yield from ([item] for item in own)
                continue
            items += own
            count += 1
            if self.wire.carries == "group" or count == groups_per_request:
                yield items
                items, count = [], 0
        if items:
            yield items

    def body(self, items: Sequence[Item]) -> bytes:
        """The body of a request for ``items``.

        Raises:
            Refused: if the wire cannot carry one of them.
        """
        prepared = [self.wire.prepare(item, self.renderer) for item in items]
        return self.wire.write(prepared, self.model if self.wire.names_model == "body" else None)

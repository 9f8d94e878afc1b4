"""Rewards that were computed before, by content: the fingerprint of the model and the token ids.

Because the key holds the fingerprint, a swapped model never answers with its predecessor's rewards.
Least recently used entries go first. Not thread-safe: it lives on the event loop.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict

from reward_server.tokens import Labels, TokenInput


class RewardCache:
    """At most ``max_entries`` results; 0 keeps none."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, Labels] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, fingerprint: str, item: TokenInput) -> Labels | None:
        """The numbers of an input, if they are known."""
        if not self._max_entries:
            return None
        key = _key(fingerprint, item)
        found = self._entries.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return found

    def put(self, fingerprint: str, item: TokenInput, labels: Labels) -> None:
        """Keeps the numbers of an input."""
        if not self._max_entries:
            return
        key = _key(fingerprint, item)
        self._entries[key] = labels
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)


def _key(fingerprint: str, item: TokenInput) -> bytes:
    content = hashlib.blake2b(f"{fingerprint} {item.start} ".encode(), digest_size=16)
    content.update(array("q", item.ids).tobytes())
    return content.digest()

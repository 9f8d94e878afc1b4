from __future__ import annotations

from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.cache import RewardCache
from reward_server.tokens import TokenInput


def item(*ids: int, start: int = 0) -> TokenInput:
    return TokenInput(ids, start)


def test_what_was_put_is_found_again() -> None:
    cache = RewardCache(4)
    assert cache.get("f", item(1, 2)) is None
    cache.put("f", item(1, 2), (0.5, -1.0))
    assert cache.get("f", item(1, 2)) == (0.5, -1.0)
    assert (cache.hits, cache.misses, len(cache)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("fingerprint", "other"),
    [
        pytest.param("g", item(1, 2), id="another model"),
        pytest.param("f", item(1, 3), id="other ids"),
        pytest.param("f", item(1), id="fewer ids"),
        pytest.param("f", item(1, 2, start=1), id="another candidate of the same ids"),
        pytest.param("f", item(12), id="ids that are written alike"),
    ],
)
def test_anything_else_is_not_found(fingerprint: str, other: TokenInput) -> None:
    cache = RewardCache(4)
    cache.put("f", item(1, 2), (0.5,))
    assert cache.get(fingerprint, other) is None


def test_how_much_was_cut_does_not_matter() -> None:
    cache = RewardCache(4)
    cache.put("f", TokenInput((1, 2), 1), (0.5,))
    assert cache.get("f", TokenInput((1, 2), 1, truncated_tokens=7)) == (0.5,)


def test_a_cache_of_no_entries_keeps_none_and_counts_nothing() -> None:
    cache = RewardCache(0)
    cache.put("f", item(1), (0.5,))
    assert cache.get("f", item(1)) is None
    assert (cache.hits, cache.misses, len(cache)) == (0, 0, 0)


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.booleans(), st.integers(0, 8)), max_size=60),
)
def test_the_least_recently_used_goes_first(
    max_entries: int, steps: list[tuple[bool, int]]
) -> None:
    cache = RewardCache(max_entries)
    known: OrderedDict[int, None] = OrderedDict()
    for is_put, name in steps:
        if is_put:
            cache.put("f", item(name), (float(name),))
            known[name] = None
            known.move_to_end(name)
            if len(known) > max_entries:
                known.popitem(last=False)
        else:
            expected = (float(name),) if name in known else None
            assert cache.get("f", item(name)) == expected
            if name in known:
                known.move_to_end(name)
        assert len(cache) == len(known)

"""Settings written as TOML are the same settings when read again."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from loop.report.recipe import to_recipe

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**62), 2**62)
scalars = st.booleans() | numbers | texts
values = scalars | st.lists(scalars, max_size=3)
settings = st.recursive(
    st.dictionaries(names, values, max_size=4),
    lambda inner: st.dictionaries(names, values | inner, max_size=4),
    max_leaves=6,
)


@given(settings)
def test_settings_survive_the_way_through_toml(content: dict[str, Any]) -> None:
    assert tomllib.loads(to_recipe(content)) == content


def test_what_is_not_set_is_left_out() -> None:
    assert to_recipe({"name": "run", "data": {"path": None, "seed": 1}}) == (
        'name = "run"\n\n[data]\nseed = 1\n'
    )

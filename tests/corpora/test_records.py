"""Fields of a record."""

from __future__ import annotations

import pytest

from corpora.errors import CorpusError
from corpora.records import Record


@pytest.mark.parametrize(("value", "number"), [(3, 3), ("3", 3), (" -3\n", -3), ("٣", 3)])
def test_a_whole_number_may_be_written_as_text(value: object, number: int) -> None:
    assert Record("f:1", 1, {"n": value}).whole("n") == number


@pytest.mark.parametrize("value", [True, 3.0, "", "3.0", "--3", "3-", "²", "9" * 5_000, [3]])
def test_what_is_no_whole_number_is_one_line(value: object) -> None:
    with pytest.raises(CorpusError, match=r"^f:1: n: expected a whole number, got .{0,60}; give"):
        Record("f:1", 1, {"n": value}).whole("n")

"""Writes the reference tool's files while groups go by.

Each file is there whole or not at all, and no text stays in memory: those of the per-item arrays,
which are one list a field, wait in files of their own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Self

from benchmarks.reference_files import (
    Layout,
    Subject,
    Tally,
    all_line,
    best_of_item,
    is_pair,
    is_right,
    leaderboard_entry,
    outputs_line,
    pair_item,
    part_of,
    result,
)
from benchmarks.rewardbench import WITHDRAWN
from benchmarks.scored import ScoredGroup
from corpora.ranked import RankedGroup
from foundation.journal import writing

PIECE = 1 << 16
"""Characters of waiting texts that are copied at a time."""


class ReferenceFiles:
    """Writes the files of one evaluation, group by group; use it as a context manager.

    Leaving it after :meth:`finish` puts the files in place; leaving it before leaves nothing.

    Args:
        folder: where they go; made where it is not there.
        subject: who is scored.
        layout: which files.
    """

    def __init__(self, folder: Path, subject: Subject, layout: Layout) -> None:
        self._folder, self._subject, self._layout = folder, subject, layout
        self._stack = ExitStack()
        self._lines: dict[str, IO[str]] = {}
        self._arrays: dict[str, _Arrays] = {}
        self._pairs: Counter[str] = Counter()
        self._right: Counter[str] = Counter()
        self._partial: dict[Path, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # of what could not be written, as was told already
            self._stack.close()
        for partial in self._partial:
            partial.unlink(missing_ok=True)

    def add(self, group: RankedGroup, scored: ScoredGroup) -> None:
        """Writes what the tool has for a group; one that it has nothing for is passed over.

        Raises:
            JobError: if it cannot be written.
        """
        if self._layout == "rewardbench2":
            if scored.is_scored and scored.rejected:
                self._add_item("eval-set", best_of_item(group, scored))
            return
        if not is_pair(scored):
            return
        if self._layout == "rewardbench":
            if scored.subset.startswith(WITHDRAWN):
                return
            self._add_item(part_of(scored.subset), pair_item(group, scored))
        self._pairs[scored.subset] += 1
        self._right[scored.subset] += is_right(scored)
        if self._is_in_result(scored.subset):
            self._write_line("_outputs.jsonl", outputs_line(group, scored))
            self._write_line("_all.jsonl", all_line(scored))

    def finish(self, subsets: Mapping[str, float | None]) -> list[Path]:
        """Writes what needs all groups, and puts everything in place.

        Args:
            subsets: RewardBench 2's scores by domain, for the leaderboard; of the other layouts
                they are counted by the tool's rule.

        Raises:
            JobError: if it cannot be written.
        """
        if self._layout != "rewardbench2":
            tally = {name: Tally(self._right[name], pairs) for name, pairs in self._pairs.items()}
            found = {name: one for name, one in tally.items() if self._is_in_result(name)}
            self._write(self._path("", ".json"), _compact(result(found, self._subject)))
            subsets = {name: one.right / one.pairs for name, one in tally.items()}
        if self._layout != "pairs":
            self._finish_leaderboard(subsets)
        with writing(self._folder):
            self._stack.close()
        for partial, path in self._partial.items():
            with writing(path):
                partial.replace(path)
        paths, self._partial = list(self._partial.values()), {}
        return paths

    def _finish_leaderboard(self, subsets: Mapping[str, float | None]) -> None:
        about = leaderboard_entry({}, self._subject)
        for part in dict.fromkeys((*map(part_of, subsets), *self._arrays)):
            scores = {name: score for name, score in subsets.items() if part_of(name) == part}
            entry = leaderboard_entry(scores, self._subject)
            self._write(self._path(part, ".json"), _indented(entry))
            if part in self._arrays:
                file = self._open(self._path(f"{part}-scores", ".json"))
                with writing(self._folder):
                    file.writelines(self._arrays[part].chunks(about))

    def _is_in_result(self, subset: str) -> bool:
        """Whether the tool's command, which knows no prior sets of RewardBench, has the subset."""
        return self._layout == "pairs" or part_of(subset) == "eval-set"

    def _path(self, part: str, ending: str) -> Path:
        name = self._subject.path
        return self._folder / part / name.parent / f"{name.name}{ending}"

    def _add_item(self, part: str, item: Mapping[str, object]) -> None:
        if part not in self._arrays:
            self._arrays[part] = _Arrays(self._stack)
        with writing(self._folder):
            self._arrays[part].add(item)

    def _write_line(self, ending: str, line: Mapping[str, object]) -> None:
        if ending not in self._lines:
            self._lines[ending] = self._open(self._path("", ending))
        with writing(self._path("", ending)):
            self._lines[ending].write(_compact(line) + "\n")

    def _write(self, path: Path, content: str) -> None:
        with writing(path):
            self._open(path).write(content + "\n")

    def _open(self, path: Path) -> IO[str]:
        partial = path.with_name(path.name + ".partial")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = self._stack.enter_context(partial.open("w", encoding="utf-8"))
        self._partial[partial] = path
        return file


class _Arrays:
    """One list a field, while items come one at a time. Texts wait in a file of their own."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._columns: dict[str, IO[str] | list[Any]] = {}

    def add(self, item: Mapping[str, Any]) -> None:
        for name, value in item.items():
            is_first = name not in self._columns
            if is_first:
                self._columns[name] = self._spool() if name.startswith("text") else []
            column = self._columns[name]
            if isinstance(column, list):
                column.append(value)
            else:
                column.write(("" if is_first else ",") + _compact(value))

    def chunks(self, about: Mapping[str, object]) -> Iterator[str]:
        """The JSON object, in pieces."""
        yield "{"
        for name, column in self._columns.items():
            yield f"{_compact(name)}:"
            if isinstance(column, list):
                yield _compact(column)
            else:
                column.seek(0)
                yield "["
                while piece := column.read(PIECE):
                    yield piece
                yield "]"
            yield ","
        yield _compact(about)[1:] + "\n"

    def _spool(self) -> IO[str]:
        return self._stack.enter_context(TemporaryFile("w+", encoding="utf-8"))


def _compact(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def _indented(value: object) -> str:
    return json.dumps(value, indent=4, sort_keys=True, allow_nan=False)

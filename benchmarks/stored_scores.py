"""Stored scores: every metric again, without a model.

Five layouts are told apart by their fields:

    journal lines     rewards, ranks, errors, …             our own ``scores.jsonl``, or its folder
    output lines      scores_chosen, scores_rejected, …     the reference tool's ``_outputs.jsonl``
    pair lines        chosen, rejected: two numbers         its ``_all.jsonl``
    judged lines      judgments, label, …                   JudgeBench's outputs of reward models
    parallel arrays   one list a field, in one JSON object  its ``eval-set-scores``: of pairs, or of
                                                            RewardBench 2's ``scores`` of lists

A score that is not a finite number makes its candidate an error, so its group is in no score; a
field that is missing or does not fit ends the reading. Lengths are taken from the texts where they
are there. Knows no benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import ScoresError
from benchmarks.judge_bench_scores import is_judged, judged
from benchmarks.scored import ScoredGroup, stored_reward
from corpora.streams import JSON_LINES, stream_records
from foundation.journal import read_journal

SCORES = "scores.jsonl"
"""What an evaluation calls its journal."""

PAIR = ("scores_chosen", "scores_rejected")
ONLY_SCORES = ("chosen", "rejected")
TEXTS = ("prompt", "text", "text_chosen", "text_rejected")
OUTCOMES = ("results", "scores", "num_correct", "total_completions")
KNOWN = frozenset((*PAIR, *ONLY_SCORES, *TEXTS, *OUTCOMES, "id", "subset", "digest", "number"))
"""Fields that are read or computed anew; all others are details."""


def read_scores(path: Path) -> Iterator[ScoredGroup]:
    """The scored groups of a file, or of an evaluation's folder, in its order.

    Args:
        path: lines are read one at a time, parallel arrays whole.

    Raises:
        ScoresError: naming file, line or item, field and what is wrong with it.
        UserError: if a line is no JSON object.
    """
    file = scores_file(path)
    if not file.is_file():
        raise ScoresError(f"{file}: no such file; give a file of scores or an evaluation's folder")
    groups = _of_lines(file) if file.suffix in JSON_LINES else _of_arrays(file)
    first = next(groups, None)
    if first is None:
        raise ScoresError(f"{file}: holds no scores; give another file")
    yield first
    yield from groups


def scores_file(path: Path) -> Path:
    """The file itself, or the scores in an evaluation's folder."""
    return path / SCORES if path.is_dir() else path


def _of_lines(file: Path) -> Iterator[ScoredGroup]:
    first = next(stream_records(file), None)
    if first is None:
        return
    if "rewards" in first.fields:
        for number, fields in enumerate(read_journal(file), start=1):
            yield ScoredGroup.from_fields(fields, where=f"{file}:{number}")
        return
    if is_judged(first.fields):
        for number, record in enumerate(stream_records(file)):
            yield judged(record, number=number)
        return
    names = next((n for n in (PAIR, ONLY_SCORES) if set(n) <= first.fields.keys()), None)
    if names is None:
        there = ", ".join(first.fields) or "none"
        raise ScoresError(
            f"{first.where}: fields: no scores among {there}; give rewards and ranks, or"
            " scores_chosen and scores_rejected, or chosen and rejected"
        )
    for number, record in enumerate(stream_records(file)):
        yield _pair(record.fields, names, number=number, where=record.where)


def _pair(
    fields: Mapping[str, Any], names: Sequence[str], *, number: int, where: str
) -> ScoredGroup:
    lengths = _lengths([fields.get("text_chosen"), fields.get("text_rejected")])
    scores = [_score(fields, name, where) for name in names]
    return _group(fields, scores, chosen=1, number=number, lengths=lengths)


def _of_arrays(file: Path) -> Iterator[ScoredGroup]:
    content = _read(file)
    names = ("scores", "num_correct") if "scores" in content else PAIR
    arrays = {name: value for name, value in content.items() if isinstance(value, list)}
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ScoresError(
            f"{file}: {missing[0]}: expected a list, one value an item; give {' and '.join(names)}"
        )
    _check_lengths(file, arrays, names[0])
    for number in range(len(arrays[names[0]])):
        fields = {name: values[number] for name, values in arrays.items()}
        where = f"{file}: item {number + 1}"
        if names is PAIR:
            yield _pair(fields, PAIR, number=number, where=where)
        else:
            yield _best_of(fields, number=number, where=where)


def _read(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ScoresError(f"{file}: malformed JSON: {error}; mend it") from None
    if not isinstance(content, dict):
        raise ScoresError(
            f"{file}: content: expected an object of lists, got {type(content).__name__}; give"
            " lines of objects as *.jsonl"
        )
    return content


def _check_lengths(file: Path, arrays: Mapping[str, Sequence[Any]], first: str) -> None:
    for name, values in arrays.items():
        if len(values) != len(arrays[first]):
            raise ScoresError(
                f"{file}: {name}: {len(values)} values beside {len(arrays[first])} of {first}; give"
                " one an item in every list"
            )


def _best_of(fields: Mapping[str, Any], *, number: int, where: str) -> ScoredGroup:
    """A group of which the first ``num_correct`` candidates are right."""
    given, correct = fields["scores"], fields["num_correct"]
    if not isinstance(given, list) or len(given) < 2:
        raise ScoresError(f"{where}: scores: expected a list of two or more, got {given!r:.60}")
    if type(correct) is not int or not 1 <= correct < len(given):
        raise ScoresError(
            f"{where}: num_correct: expected 1 to {len(given) - 1}, for {len(given)} scores, got"
            f" {correct!r:.60}"
        )
    texts = fields.get("text")
    if isinstance(texts, list) and len(texts) != len(given):
        raise ScoresError(
            f"{where}: text: {len(texts)} texts beside {len(given)} scores; give one of each for"
            " every candidate"
        )
    lengths = _lengths(texts) if isinstance(texts, list) else None
    scores = [_score({"scores": score}, "scores", where) for score in given]
    return _group(fields, scores, chosen=correct, number=number, lengths=lengths)


def _group(
    fields: Mapping[str, Any],
    scores: Sequence[tuple[float | None, str | None]],
    *,
    chosen: int,
    number: int,
    lengths: tuple[int, ...] | None,
) -> ScoredGroup:
    return ScoredGroup(
        number=given if type(given := fields.get("number")) is int else number,
        id=str(fields.get("id", number)),
        subset=str(fields.get("subset") or ""),
        digest=str(fields.get("digest") or ""),
        ranks=tuple(1 if place < chosen else 2 for place in range(len(scores))),
        rewards=tuple(reward for reward, _ in scores),
        errors=tuple(error for _, error in scores),
        characters=lengths,
        details={name: value for name, value in fields.items() if name not in KNOWN},
    )


def _score(fields: Mapping[str, Any], name: str, where: str) -> tuple[float | None, str | None]:
    """A reward or an error; the tool writes some models' numbers as lists of one."""
    if name not in fields:
        raise ScoresError(f"{where}: {name}: missing; give every line this number")
    value = fields[name]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    reward = stored_reward(value, f"{where}: {name}")
    if value is None:
        return None, f"missing_reward: {where}: {name} is null"
    if reward is None:
        return None, f"non_finite_reward: {where}: {name} is {value!r:.60}"
    return reward, None


def _lengths(texts: Sequence[object]) -> tuple[int, ...] | None:
    """Characters of each candidate, given as the messages that end with it or as rendered text.

    Rendered texts share the question in front and the template's end behind. What all of them share
    is taken off: that leaves every difference of lengths as it is, and the lengths themselves short
    by what the candidates too have in common where they begin and end.
    """
    if all(isinstance(text, str) for text in texts):
        rendered = [text for text in texts if isinstance(text, str)]
        tails = [text[_shared(rendered) :] for text in rendered]
        behind = _shared([tail[::-1] for tail in tails])
        return tuple(len(tail) - behind for tail in tails)
    last = [text[-1] if isinstance(text, list) and text else None for text in texts]
    contents = [m.get("content") if isinstance(m, Mapping) else None for m in last]
    lengths = tuple(len(content) for content in contents if isinstance(content, str))
    return lengths if len(lengths) == len(texts) else None


def _shared(texts: Sequence[str]) -> int:
    """Characters that all texts begin with."""
    first, last = min(texts), max(texts)  # in alphabetical order, so all others share as much
    unequal = (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return next(unequal, len(first))

"""The layouts of question suites, by name, and one way to read them all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from corpora.errors import CorpusError
from corpora.questions import med_mcqa, med_qa, mirage, mmlu, pubmed_qa, usmle
from corpora.questions.choice import ChoiceQuestion
from corpora.records import Record
from corpora.sources import find_files
from corpora.streams import CSV, OnBad, stop_at_bad, stream_records


def _every_record(path: Path, on_bad: OnBad) -> Iterator[Record]:
    return stream_records(path, on_bad=on_bad)


def _as_one(suite: str, subset: str) -> str:
    return suite


def _by_part(suite: str, subset: str) -> str:
    """For parts that stand in tables by themselves, as MMLU's subjects do."""
    return subset


def _by_suite_and_part(suite: str, subset: str) -> str:
    return f"{suite}/{subset}" if subset else suite


def _every_file(files: Sequence[Path]) -> list[Path]:
    return list(files)


@dataclass(frozen=True, slots=True)
class Format:
    """One published layout."""

    name: str
    layout: str
    """What a record has, for people."""

    parse: Callable[[Record], ChoiceQuestion]
    fields: Collection[Collection[str]]
    """Fields by which a record is known; those of any one of its forms."""

    split: str | None = None
    """What is scored of a folder or hub, by the data's own name; ``None`` for all files."""

    records: Callable[[Path, OnBad], Iterator[Record]] = _every_record
    choose: Callable[[Sequence[Path]], list[Path]] = _every_file
    """The files that hold questions, of those found."""

    section: Callable[[str, str], str] = _as_one
    """The name under which a table has a question, of the name of the suite and its subset."""


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        format.name: format
        for format in (
            Format(
                "usmle",
                "medAlpaca's stepN.json: no, question, options; stepN_solutions.json beside it",
                usmle.parse,
                [usmle.FIELDS],
                records=usmle.records,
                choose=usmle.choose,
                section=_by_part,
            ),
            Format(
                "med-qa",
                "question, options by letter, answer_idx",
                med_qa.parse,
                [med_qa.FIELDS],
                split="test",
            ),
            Format(
                "med-mcqa",
                "question, opa, opb, opc, opd, cop (from 0)",
                med_mcqa.parse,
                [med_mcqa.FIELDS],
                split="validation",
                records=med_mcqa.records,
            ),
            Format(
                "pubmed-qa",
                "by id: QUESTION, CONTEXTS, final_decision; or the hub's columns of these",
                pubmed_qa.parse,
                [pubmed_qa.FIELDS, pubmed_qa.COLUMNS],
                choose=pubmed_qa.choose,
            ),
            Format(
                "mmlu",
                "question, subject, choices, answer (from 0); or the original CSV without names",
                mmlu.parse,
                [mmlu.FIELDS],
                split="test",
                records=mmlu.records,
                choose=mmlu.choose,
                section=_by_part,
            ),
            Format(
                "mirage",
                "by id, or by suite and id: question, options by letter, answer",
                mirage.parse,
                [mirage.FIELDS],
                records=mirage.records,
                section=_by_suite_and_part,
            ),
        )
    }
)
"""The more telling one first: a record may have the fields of several."""


def find_format(name: str) -> Format:
    """The layout of that name.

    Raises:
        CorpusError: naming the known ones, if there is none.
    """
    if name not in FORMATS:
        raise CorpusError(f"format: {name!r} is not known; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def detect_format(record: Record) -> Format:
    """The layout that the fields of a record tell.

    Raises:
        CorpusError: naming the known ones, if they tell none.
    """
    for format in FORMATS.values():
        if any(set(fields) <= record.fields.keys() for fields in format.fields):
            return format
    if mirage.is_suite(record):
        return FORMATS["mirage"]
    fields = ", ".join(record.fields) or "none"
    raise CorpusError(
        f"{record.where}: its fields ({fields:.120}) tell no layout of questions; name one of"
        f" {', '.join(FORMATS)}"
    )


def format_of(source: str) -> Format:
    """The layout of a source, from the names of its files or its first record.

    Raises:
        CorpusError: if there is no record, or it tells no layout.
    """
    files = question_files(source, FORMATS["usmle"])  # leaves out what lies beside questions
    if any(path.suffix in CSV and mmlu.subject_of(path) for path in files):
        return FORMATS["mmlu"]
    path = files[0]
    record = next(stream_records(path, on_bad=_pass_over), None)
    if record is None:
        raise CorpusError(f"{path}: no record in it; give a file with questions")
    return detect_format(record)


def _pass_over(error: CorpusError) -> None:
    """Whoever reads the questions meets it again."""


def question_files(source: str, format: Format, *, split: str | None = None) -> list[Path]:
    """The files of a source that :func:`read_questions` reads, in order.

    Raises:
        CorpusError: if there are none.
    """
    files = format.choose(find_files(source, split=split or format.split))
    if not files:
        raise CorpusError(f"{source}: no file with questions in the layout {format.name}")
    return files


def read_questions(
    source: str,
    format: Format | None,
    *,
    split: str | None = None,
    on_bad: OnBad = stop_at_bad,
    limit: int | None = None,
) -> Iterator[ChoiceQuestion]:
    """The questions of a source, one at a time, in its order.

    Args:
        source: a file, a folder, or the name of a data set on a hub.
        format: how records are laid out; ``None`` for what the first one tells.
        split: of a folder or hub; left out, the one that the layout's suite is scored on.
        on_bad: takes the error of a record that cannot be used.
        limit: questions at most.

    Raises:
        CorpusError: naming what cannot be read and the fix, or what ``on_bad`` raises.
    """
    format = format or format_of(source)
    files = question_files(source, format, split=split)
    return islice(_questions(files, format, on_bad), limit)


def _questions(files: Sequence[Path], format: Format, on_bad: OnBad) -> Iterator[ChoiceQuestion]:
    for path in files:
        for record in format.records(path, on_bad):
            try:
                question = format.parse(record)
            except CorpusError as error:
                on_bad(_placed(error, record))
            else:
                yield question


def _placed(error: CorpusError, record: Record) -> CorpusError:
    """The error with its place, which what knows no record leaves out."""
    message = str(error)
    return error if message.startswith(record.where) else CorpusError(f"{record.where}: {message}")

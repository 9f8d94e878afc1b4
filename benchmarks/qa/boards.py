"""Scores of the suites, as UltraMedical's table takes them (arXiv 2406.03949, table 2).

A section is the share of its questions that were answered rightly; the overall score is the
unweighted mean of the table's nine columns: MedQA, MedMCQA, PubMedQA and MMLU's six medical
subjects. Sections that are no column of it, such as the USMLE steps, stand beside it. Where no
section is a column, the overall score is the unweighted mean of all sections: so MIRAGE takes it.

An answer that chooses nothing is wrong; a question that was not answered, because a request failed,
is in no score. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from benchmarks.boards import Board, Leaf, Node, Tree
from benchmarks.qa.answered import Answered
from corpora.questions.mmlu import SUBJECTS

COLUMNS = ("med_qa", "med_mcqa", "pubmed_qa", *SUBJECTS)
"""Sections of UltraMedical's table, in its order."""


def board(answered: Iterable[Answered]) -> Board | None:
    """The scores of one mode; ``None`` where nothing was answered."""
    sections: dict[str, list[tuple[int, float]]] = defaultdict(list)
    subsets: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for each in answered:
        if each.error is None:
            value = (each.number, float(each.is_right))
            sections[each.section].append(value)
            if each.subset and each.subset not in each.section:
                subsets[f"{each.section}/{each.subset}"].append(value)
    return of_sections(_leaves(sections), _leaves(subsets)) if sections else None


def of_sections(sections: Mapping[str, Tree], subsets: Mapping[str, Tree]) -> Board:
    """The board over sections, at least one, the table's columns in its order."""
    ordered = {name: sections[name] for name in _in_order(sections)}
    columns = {name: tree for name, tree in ordered.items() if name in COLUMNS}
    return Board(
        overall=Node(columns or ordered),
        sections=ordered,
        subsets=subsets,
        missing=tuple(name for name in COLUMNS if name not in columns) if columns else (),
    )


def _in_order(sections: Iterable[str]) -> list[str]:
    places = {name: place for place, name in enumerate(COLUMNS)}
    return sorted(sections, key=lambda name: places.get(name, len(places)))


def _leaves(values: Mapping[str, list[tuple[int, float]]]) -> dict[str, Tree]:
    """Leaves in the order of the data, whatever order the answers came in."""
    return {
        name: Leaf(
            values=tuple(value for _, value in sorted(pairs)),
            numbers=tuple(number for number, _ in sorted(pairs)),
        )
        for name, pairs in values.items()
    }

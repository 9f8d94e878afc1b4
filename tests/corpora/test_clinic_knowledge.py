"""The bundled facts, and a loader that names file, condition and field of what does not fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from corpora.clinic.gold import normalise
from corpora.clinic.knowledge import CONDITIONS, Intent, Knowledge, load_knowledge
from corpora.errors import CorpusError

KNOWLEDGE = load_knowledge()

COUGH = """
[cough]
name = "a cough"
causes = ["a virus", "dust", "smoke"]
symptoms = ["a tickle", "a dry throat", "noisy nights"]
self_care = ["honey", "steam", "water"]
red_flags = ["blue skin", "blood", "choking"]
when_to_seek_help = ["a month of it", "lost weight", "night sweats"]
prevention = ["clean air", "a scarf", "soap"]
risk = ["miners", "choirs", "cooks"]
triggers = ["cold air", "perfume", "laughter"]
"""


def _load(folder: Path, text: str) -> Knowledge:
    (folder / "chest.toml").write_text(text, encoding="utf-8")
    return load_knowledge(folder)


def test_the_bundled_world_has_at_least_64_conditions_and_500_combinations() -> None:
    assert len(KNOWLEDGE.conditions) >= 64
    assert len(KNOWLEDGE.combos) == len(KNOWLEDGE.conditions) * len(Intent) >= 500


def test_conditions_are_ordered_by_slug_whatever_file_they_come_from() -> None:
    slugs = [condition.slug for condition in KNOWLEDGE.conditions]
    assert slugs == sorted(slugs)
    assert all(re.fullmatch(r"[a-z0-9-]+", slug) for slug in slugs)


def test_every_bundled_fact_is_distinctive_after_normalising() -> None:
    said = [normalise(f) for combo in KNOWLEDGE.combos for f in KNOWLEDGE.facts(combo)]
    assert all(said)
    assert len(set(said)) / len(said) > 0.99


def test_no_condition_says_the_same_of_two_intents_after_normalising() -> None:
    for condition in KNOWLEDGE.conditions:
        said = [normalise(f) for intent in Intent for f in condition.facts(intent)]
        assert len(set(said)) == len(said), condition.slug


def test_a_folder_of_condition_files_loads(tmp_path: Path) -> None:
    [cough] = _load(tmp_path, COUGH).conditions
    assert cough.slug == "cough"
    assert cough.facts(Intent.CAUSES) == ("a virus", "dust", "smoke")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("causes = [", "cause = [", r"\[cough\]\.causes: Field required", id="missing"),
        pytest.param('"dust", "smoke"', '"dust"', r"\[cough\]\.causes", id="too-few"),
        pytest.param('"dust"', '"dust and smoke"', r"\[cough\]\.causes\.1", id="two-in-one"),
        pytest.param('"dust"', '"dust, smoke"', r"\[cough\]\.causes\.1", id="comma"),
        pytest.param('"dust"', "7", r"\[cough\]\.causes\.1", id="number"),
        pytest.param('"dust"', '"a tickle"', r"symptoms: 'a tickle' is already", id="said-twice"),
        pytest.param("[cough]", "[cough]\nage = 3", r"\[cough\]\.age", id="unknown-field"),
        pytest.param("[cough]", "cold = 1\n[cough]", r"\[cold\]: expected a table", id="no-table"),
        pytest.param("[cough]", "[cough", r"not valid TOML", id="not-toml"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_its_field(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(CorpusError, match=rf"chest\.toml.*{message}") as caught:
        _load(tmp_path, COUGH.replace(old, new))
    assert "\n" not in str(caught.value)


def test_a_condition_in_two_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "throat.toml").write_text(COUGH, encoding="utf-8")
    with pytest.raises(CorpusError, match=r"throat\.toml: \[cough\] is defined twice"):
        _load(tmp_path, COUGH)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no \\*\\.toml file"):
        load_knowledge(tmp_path)


def test_the_data_says_that_it_is_no_medical_advice() -> None:
    assert "not medical advice" in (CONDITIONS.parent / "README.md").read_text(encoding="utf-8")

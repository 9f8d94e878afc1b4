"""Readers of question suites: what each layout's record becomes, and what is said of bad ones."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow  # type: ignore[import-untyped]  # ships no types
import pyarrow.parquet  # type: ignore[import-untyped]
import pytest

from corpora.errors import CorpusError
from corpora.questions.choice import ChoiceQuestion
from corpora.questions.pubmed_qa import read_ids
from corpora.questions.registry import FORMATS, find_format, format_of, read_questions

DATA = Path(os.environ.get("MEDPREF_DATA") or Path(__file__).parents[4] / "shared/data")

MED_QA = {
    "question": "Which drug?",
    "answer": "Tea",
    "options": {"A": "Rest", "B": "Tea", "C": "Ice", "D": "Salt"},
    "meta_info": "step1",
    "answer_idx": "B",
    "metamap_phrases": ["drug"],
}
MED_MCQA = {
    "id": "m1",
    "question": "Which drug?",
    "opa": "Rest",
    "opb": "Tea",
    "opc": "Ice",
    "opd": "Salt",
    "cop": 1,
    "choice_type": "single",
    "exp": None,
    "subject_name": "Pharmacology",
    "topic_name": None,
}
PUBMED_QA = {
    "QUESTION": "Does tea help?",
    "CONTEXTS": ["It was studied.", "It helped."],
    "LABELS": ["METHODS", "RESULTS"],
    "final_decision": "maybe",
    "LONG_ANSWER": "Perhaps.",
}
PUBMED_QA_COLUMNS = {
    "pubid": 77,
    "question": "Does tea help?",
    "context": {"contexts": ["It was studied.", "It helped."], "labels": [], "meshes": []},
    "long_answer": "Perhaps.",
    "final_decision": "maybe",
}
MMLU = {
    "question": "Which drug?",
    "subject": "anatomy",
    "choices": ["Rest", "Tea", "Ice", "Salt"],
    "answer": 1,
}
MIRAGE = {"question": "Which drug?", "options": MED_QA["options"], "answer": "B"}
STEP = {"no": 4, "question": "Which drug?", "options": MED_QA["options"]}

TEA = dict(zip("ABCD", ("Rest", "Tea", "Ice", "Salt"), strict=True))


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".jsonl":
            path.write_text("\n".join(json.dumps(row) for row in content), encoding="utf-8")
        case ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), path)
        case _:
            path.write_text(json.dumps(content), encoding="utf-8")
    return path


def read(path: Path, format: str | None = None, **how: Any) -> list[ChoiceQuestion]:
    chosen = find_format(format) if format else format_of(str(path))
    return list(read_questions(str(path), chosen, **how))


def refused(path: Path, format: str | None = None) -> str:
    with pytest.raises(CorpusError) as caught:
        read(path, format)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param(
            "test.jsonl",
            [MED_QA],
            ChoiceQuestion("1", "Which drug?", TEA, "B", "step1"),
            id="MedQA",
        ),
        pytest.param(
            "test.jsonl",
            [MED_QA | {"options": TEA | {"E": "Sun"}, "answer_idx": "E"}],
            ChoiceQuestion("1", "Which drug?", TEA | {"E": "Sun"}, "E", "step1"),
            id="MedQA with five options",
        ),
        pytest.param(
            "validation.parquet",
            [MED_MCQA],
            ChoiceQuestion(
                "m1", "Which drug?", TEA, "B", "Pharmacology", (), {"choice_type": "single"}
            ),
            id="MedMCQA",
        ),
        pytest.param(
            "ori_pqal.json",
            {"77": PUBMED_QA},
            ChoiceQuestion(
                "77",
                "Does tea help?",
                {"A": "yes", "B": "no", "C": "maybe"},
                "C",
                "",
                ("It was studied.", "It helped."),
            ),
            id="PubMedQA",
        ),
        pytest.param(
            "train.parquet",
            [PUBMED_QA_COLUMNS],
            ChoiceQuestion(
                "77",
                "Does tea help?",
                {"A": "yes", "B": "no", "C": "maybe"},
                "C",
                "",
                ("It was studied.", "It helped."),
            ),
            id="PubMedQA in columns",
        ),
        pytest.param(
            "test.parquet",
            [MMLU, MMLU | {"subject": "astronomy"}],
            ChoiceQuestion("1", "Which drug?", TEA, "B", "anatomy"),
            id="MMLU, medical subjects only",
        ),
        pytest.param(
            "dev.json",
            {"q7": MIRAGE},
            ChoiceQuestion("q7", "Which drug?", TEA, "B"),
            id="MIRAGE without suites",
        ),
        pytest.param(
            "benchmark.json",
            {"bioasq": {"q7": MIRAGE | {"options": {"A": "yes", "B": "no"}}}},
            ChoiceQuestion("q7", "Which drug?", {"A": "yes", "B": "no"}, "B", "bioasq"),
            id="MIRAGE with suites",
        ),
    ],
)
def test_a_layout_is_known_by_its_fields_and_read(
    tmp_path: Path, name: str, content: Any, expected: ChoiceQuestion
) -> None:
    assert read(write(tmp_path / name, content)) == [expected]


def test_suites_of_one_file_keep_their_names(tmp_path: Path) -> None:
    path = write(tmp_path / "benchmark.json", {"medqa": {"1": MIRAGE}, "mmlu": {"a-1": MIRAGE}})
    assert [(q.subset, q.id) for q in read(path)] == [("medqa", "1"), ("mmlu", "a-1")]


def test_columns_without_text_are_options_that_the_question_lacks(tmp_path: Path) -> None:
    three = MED_QA | {"options": {"A": "Rest", "B": "Tea", "C": "Ice"}}
    path = write(tmp_path / "test.parquet", [MED_QA, three])
    assert [len(question.options) for question in read(path)] == [4, 3]


def test_a_subject_of_mmlu_is_read_from_the_original_csv(tmp_path: Path) -> None:
    path = tmp_path / "college_biology_test.csv"
    path.write_text('"Which, of these?",Rest,Tea,Ice,Salt,D\nb,1,2,3,4,A\n', encoding="utf-8")
    first, second = read(path)
    assert first == ChoiceQuestion("1", "Which, of these?", TEA, "D", "college_biology")
    assert (second.answer, second.options["D"]) == ("A", "4")


@pytest.mark.parametrize("below", ["", "test"])
def test_the_original_folder_of_mmlu_is_known_by_the_names_of_its_files(
    tmp_path: Path, below: str
) -> None:
    for name in ("dev/abstract_algebra_dev", "test/abstract_algebra_test", "test/anatomy_test"):
        path = tmp_path / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text("Which drug?,Rest,Tea,Ice,Salt,B\n", encoding="utf-8")
    assert [question.subset for question in read(tmp_path / below)] == ["anatomy"]


@pytest.mark.parametrize(
    ("labelled", "others"),
    [
        ("pqa_labeled/train.parquet", ("pqa_artificial/train.parquet", "pqa_unlabeled/t.parquet")),
        ("ori_pqal.json", ("ori_pqaa.json", "test_ground_truth.json")),
    ],
)
def test_of_pubmed_qa_only_what_experts_labelled_is_read(
    tmp_path: Path, labelled: str, others: tuple[str, ...]
) -> None:
    in_columns = labelled.endswith("parquet")
    for name in (labelled, *others):
        question = "By experts?" if name == labelled else "By a machine?"
        fields = (
            [PUBMED_QA_COLUMNS | {"question": question}]
            if in_columns
            else {"77": PUBMED_QA | {"QUESTION": question}}
        )
        write(tmp_path / name, fields)
    assert [question.question for question in read(tmp_path)] == ["By experts?"]


def test_answers_counted_from_1_end_the_reading_whatever_is_skipped(tmp_path: Path) -> None:
    """As MedMCQA's own release does: answers 1 to 3 would all be taken for their neighbours."""
    path = write(tmp_path / "dev.jsonl", [MED_MCQA | {"cop": cop} for cop in (1, 2, 4)])
    with pytest.raises(CorpusError, match=r":3: cop: 4 .* counts from 1, .* count from 0$"):
        read(path, on_bad=lambda _: None)


def test_of_a_folder_of_mmlu_only_the_medical_subjects_are_read_and_each_once(
    tmp_path: Path,
) -> None:
    for subject in ("anatomy", "astronomy", "college_medicine"):
        rows = [MMLU | {"subject": subject}]
        write(tmp_path / subject / "test-00000-of-00001.parquet", rows)
        write(tmp_path / subject / "dev-00000-of-00001.parquet", rows)
    write(tmp_path / "all" / "test-00000-of-00001.parquet", [MMLU])
    assert [q.subset for q in read(tmp_path, "mmlu")] == ["anatomy", "college_medicine"]


def test_solutions_and_pictures_of_the_usmle_steps_lie_beside_the_questions(
    tmp_path: Path,
) -> None:
    for step in ("step1", "step2"):
        write(tmp_path / f"{step}.json", [STEP, STEP | {"no": 5}])
        write(tmp_path / f"{step}_solutions.json", {"4": "b", "5": "C"})
    write(tmp_path / "question_with_images.json", {"step1": [5], "step2": []})
    found = [(q.id, q.answer, q.subset) for q in read(tmp_path)]
    assert found == [
        ("step1-4", "B", "step1"),
        ("step2-4", "B", "step2"),
        ("step2-5", "C", "step2"),
    ]


@pytest.mark.parametrize(("number", "pictured"), [(5, "5"), ("5", 5)])
def test_a_number_of_a_usmle_question_may_be_text(
    tmp_path: Path, number: object, pictured: object
) -> None:
    path = write(tmp_path / "step1.json", [STEP, STEP | {"no": number}])
    write(tmp_path / "step1_solutions.json", {"4": "B", "5": "C"})
    write(tmp_path / "question_with_images.json", {"step1": [pictured]})
    assert [question.id for question in read(path)] == ["step1-4"]


@pytest.mark.parametrize("pictures", [None, 5, "5", {"5": True}])
def test_pictures_that_are_no_list_are_named(tmp_path: Path, pictures: object) -> None:
    path = write(tmp_path / "step1.json", [STEP])
    write(tmp_path / "step1_solutions.json", {"4": "B"})
    write(tmp_path / "question_with_images.json", {"step1": pictures})
    assert "question_with_images.json: step1: expected a list of numbers, got " in refused(path)


def test_a_usmle_question_without_a_number_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "step1.json", [STEP | {"no": [4]}])
    write(tmp_path / "step1_solutions.json", {"4": "B"})
    write(tmp_path / "question_with_images.json", {"step1": [5]})
    assert "record 1: no: expected a whole number, got [4]" in refused(path)


@pytest.mark.parametrize(
    ("format", "row", "message"),
    [
        ("med-qa", MED_QA | {"answer_idx": "E"}, ":1: answer: 'E' is none of the options A, B, C"),
        ("med-qa", MED_QA | {"answer_idx": None}, ":1: answer_idx: expected text, got None"),
        ("med-qa", MED_QA | {"options": ["a", "b"]}, ":1: options: expected an object, got "),
        ("med-qa", MED_QA | {"options": {"A": 1, "B": ""}}, ":1: options.A: expected text, got 1"),
        ("med-qa", MED_QA | {"options": {"A": "x", "C": "y"}}, ":1: options: the letters are A, C"),
        ("med-qa", MED_QA | {"options": {"A": "x", "B": " "}}, ":1: options.B: is empty"),
        ("med-qa", MED_QA | {"options": {"A": "x"}}, ":1: options: 1 of them; a choice needs two"),
        ("med-qa", MED_QA | {"question": " "}, ":1: question: is empty"),
        ("med-mcqa", MED_MCQA | {"cop": 5}, ":1: cop: 5 is none of 0 to 3; count options from 0"),
        ("med-mcqa", MED_MCQA | {"cop": -1}, ":1: cop: -1 is none of 0 to 3; .* published$"),
        ("med-mcqa", {"question": "q", "cop": 1}, ":1: opa: missing"),
        ("pubmed-qa", PUBMED_QA | {"final_decision": "so"}, ":1: final_decision: 'so' is none of"),
        ("pubmed-qa", PUBMED_QA | {"CONTEXTS": "x"}, ":1: CONTEXTS: expected a list of texts"),
        ("pubmed-qa", PUBMED_QA_COLUMNS | {"context": []}, ":1: context: expected an object"),
        ("mmlu", MMLU | {"answer": 4}, ":1: answer: 4 is none of 0 to 3"),
        ("mmlu", MMLU | {"choices": ["x"] * 27}, ":1: options: 27 of them; there are letters"),
        ("mmlu", MMLU | {"subject": None}, ":1: subject: expected text, got None"),
        ("mirage", {"question": "q", "options": TEA}, ":1: answer: missing"),
    ],
)
def test_a_bad_record_is_one_line_with_place_field_and_fix(
    tmp_path: Path, format: str, row: Any, message: str
) -> None:
    path = write(tmp_path / "test.jsonl", [row])
    with pytest.raises(CorpusError, match=message) as caught:
        read(path, format)
    assert str(caught.value).startswith(f"{path}:1: ")


def test_whoever_skips_bad_records_gets_the_others_and_every_reason(tmp_path: Path) -> None:
    rows = [MED_QA, MED_QA | {"answer_idx": "X"}, MED_QA]
    bad: list[CorpusError] = []
    found = read(write(tmp_path / "test.jsonl", rows), on_bad=bad.append)
    assert [question.id for question in found] == ["1", "3"]
    assert len(bad) == 1

    suites = {"medqa": {"1": MIRAGE, "2": {"question": "q"}}, "mmlu": {"a": MIRAGE, "b": MIRAGE}}
    bad.clear()
    found = read(write(tmp_path / "benchmark.json", suites), "mirage", on_bad=bad.append)
    assert [question.id for question in found] == ["1", "a", "b"]
    assert "record medqa: question 2: options: missing" in str(bad[0])


def test_a_line_of_the_original_csv_with_too_few_cells_is_named(tmp_path: Path) -> None:
    path = tmp_path / "anatomy_test.csv"
    path.write_bytes(b'"q\nq",1,2,3,4,A\nq,1,2\n\xe9,1,2,3,4,A\nq,1,2,3,4,B\n')
    assert "anatomy_test.csv:3: 3 cells, not 6; mend it" in refused(path)
    bad: list[CorpusError] = []
    assert [question.id for question in read(path, on_bad=bad.append)] == ["1", "4"]
    assert "anatomy_test.csv:4: is not UTF-8" in str(bad[1])


def test_a_torn_first_line_does_not_hide_the_layout(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('{"question"\n' + json.dumps(MED_QA), encoding="utf-8")
    bad: list[CorpusError] = []
    assert [question.id for question in read(path, on_bad=bad.append)] == ["2"]
    assert len(bad) == 1
    assert ":1: malformed JSON" in refused(path)


def test_what_is_missing_beside_the_questions_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "step1.json", [STEP])
    assert "step1_solutions.json: cannot be read as JSON" in refused(path)
    write(tmp_path / "step1_solutions.json", [])
    assert "step1_solutions.json: expected a JSON object" in refused(path)
    write(tmp_path / "step1_solutions.json", {"5": "A"})
    assert "record 1: no: 4 has no letter among the solutions" in refused(path)


def test_other_data_is_refused_with_what_is_known(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", [{"prompt": "p", "chosen": "c"}])
    assert "(prompt, chosen) tell no layout of questions; name one of usmle, " in refused(path)
    empty = write(tmp_path / "empty.jsonl", [])
    assert "no record in it" in refused(empty)
    with pytest.raises(CorpusError, match="'medqa' is not known; choose one of usmle, med-qa"):
        find_format("medqa")


def test_of_a_folder_the_published_split_is_read_and_a_limit_ends_it(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", [MED_QA])
    write(tmp_path / "test.jsonl", [MED_QA | {"question": f"q{n}"} for n in range(3)])
    assert [q.question for q in read(tmp_path, "med-qa", limit=2)] == ["q0", "q1"]
    assert len(read(tmp_path, "med-qa", split="train")) == 1
    assert {format.split for format in FORMATS.values()} == {"test", "validation", None}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ('{"1": "yes", "22": "no"}', {"1", "22"}),
        ('["1", 22]', {"1", "22"}),
        ("1\n22\n", {"1", "22"}),
        ("1\n", {"1"}),
    ],
)
def test_ids_are_read_from_any_usual_file(tmp_path: Path, text: str, ids: set[str]) -> None:
    path = tmp_path / "ids"
    path.write_text(text, encoding="utf-8")
    assert read_ids(path) == ids


def test_a_file_without_ids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(CorpusError, match="no id in it"):
        read_ids(path)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_ids(tmp_path / "gone")


def test_what_is_asked_tells_questions_apart_whatever_their_ids() -> None:
    one = ChoiceQuestion("1", "q", TEA, "A")
    assert one.digest == ChoiceQuestion("2", "q", TEA, "A", "other").digest
    assert one.digest != ChoiceQuestion("1", "q", TEA, "B").digest
    assert one.digest != ChoiceQuestion("1", "q", TEA, "A", context=("c",)).digest


@pytest.mark.parametrize(
    ("name", "format", "count", "answers"),
    [
        pytest.param("medmcqa/dev-600.json", "mirage", 600, None, id="MedMCQA"),
        pytest.param(
            "pubmedqa/train.json", "pubmed-qa", 500, {"A": 276, "B": 169, "C": 55}, id="PubMedQA"
        ),
    ],
)
def test_published_files_are_read_whole(
    name: str, format: str, count: int, answers: dict[str, int] | None
) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"needs {name} under {DATA}; set MEDPREF_DATA")
    assert format_of(str(DATA / name)).name == format
    questions = read(DATA / name)
    assert len(questions) == len({question.id for question in questions}) == count
    assert answers is None or Counter(q.answer for q in questions) == answers
    assert format != "pubmed-qa" or all(question.context for question in questions)

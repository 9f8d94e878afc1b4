import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpora.conversation import Conversation
from corpora.errors import CorpusError
from corpora.prompts import HELDOUT_SHARE, PromptsWorld, read_prompts


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    return write(tmp_path / "p.jsonl", *({"prompt": f"Question {n}?"} for n in range(100)))


def test_text_messages_and_trl_prompts_become_the_same_conversation(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "What helps a stuffy nose?"}
    path = write(
        tmp_path / "p.jsonl",
        {"prompt": turn["content"]},
        {"messages": [turn]},
        {"prompt": [turn]},
        {"messages": [turn], "prompt": None},
    )
    conversations = [question.conversation for question in read_prompts(path)]
    assert conversations == [Conversation.ask(turn["content"])] * 4


def test_id_and_reference_are_taken_and_other_fields_are_ignored(tmp_path: Path) -> None:
    record = {"id": "k-7", "prompt": "Is it contagious?", "reference": "Yes.", "icd": "J02.9"}
    question = read_prompts(write(tmp_path / "p.jsonl", record))[0]
    assert (question.id, question.reference) == ("k-7", "Yes.")


def test_ids_count_lines_where_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n\n{"prompt": "b"}\n', encoding="utf-8")
    assert [question.id for question in read_prompts(path)] == ["line-1", "line-3"]


def test_conversations_that_differ_in_case_or_spacing_are_one_question(tmp_path: Path) -> None:
    texts = ["Is it  contagious?", "is it contagious?", "Is it viral?"]
    world = PromptsWorld(write(tmp_path / "p.jsonl", *({"prompt": t} for t in texts)), seed=0)
    asked = [*world.heldout_questions(1), *world.round_questions(1, 1)]
    assert {question.id for question in asked} == {"line-1", "line-3"}


def test_the_heldout_share_is_as_documented(hundred: Path) -> None:
    world = PromptsWorld(hundred, seed=3)
    heldout = round(100 * HELDOUT_SHARE)
    assert len(world.heldout_questions(heldout)) == heldout
    with pytest.raises(CorpusError, match=r"^data\.heldout_questions: 21 wanted, .* at most 20$"):
        world.heldout_questions(heldout + 1)


def test_rounds_walk_the_pool_and_wrap(hundred: Path) -> None:
    world = PromptsWorld(hundred, seed=3)
    first, second, third = (world.round_questions(number, 40) for number in (1, 2, 3))
    assert len({question.id for question in [*first, *second]}) == 80
    assert third == first
    with pytest.raises(CorpusError, match=r"^data\.round_questions: 81 wanted, .* at most 80$"):
        world.round_questions(1, 81)


def test_this_world_has_nothing_to_train_a_base_policy_or_a_reward_model_on(hundred: Path) -> None:
    world = PromptsWorld(hundred, seed=0)
    assert not world.demonstrations()
    assert not world.reward_questions(10)
    assert world.gold(world.heldout_questions(1)[0], "An answer.") is None
    with pytest.raises(CorpusError, match=r"set reward\.model"):
        world.reward_pairs({})


def test_the_digest_follows_content_and_seed(hundred: Path) -> None:
    before = PromptsWorld(hundred, seed=0).digest
    assert PromptsWorld(hundred, seed=0).digest == before
    assert PromptsWorld(hundred, seed=1).digest != before
    write(hundred, {"prompt": "a"}, {"prompt": "b"})
    assert PromptsWorld(hundred, seed=0).digest != before


@given(st.integers(), st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30))
@settings(deadline=None)
def test_no_seed_puts_a_question_into_rounds_and_heldout(
    tmp_path_factory: pytest.TempPathFactory, seed: int, texts: list[str]
) -> None:
    path = write(tmp_path_factory.mktemp("p") / "p.jsonl", *({"prompt": t} for t in ["z", *texts]))
    world = PromptsWorld(path, seed)
    count = len({"z", *texts})
    held = max(1, round(HELDOUT_SHARE * count))
    heldout = {question.conversation for question in world.heldout_questions(held)}
    rounds = {question.conversation for question in world.round_questions(1, count - held)}
    assert not heldout & rounds
    assert len(heldout | rounds) == count


GOOD = '{"prompt": "a"}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "the file is empty; set data.path=FILE", id="empty"),
        pytest.param(GOOD + '{"prompt": \n', r":2: malformed JSON: .+; mend it", id="malformed"),
        pytest.param(GOOD + "[]\n", r":2: expected a JSON object, got \[\]", id="a list"),
        pytest.param(
            GOOD + '{"question": "b"}', r":2: prompt: no conversation.*give", id="no field"
        ),
        pytest.param(GOOD + '{"prompt": " "}', r":2: prompt: no conversation", id="blank"),
        pytest.param(
            GOOD + '{"messages": "b"}', r":2: prompt: no conversation", id="flat messages"
        ),
        pytest.param(
            '{"messages": [{"role": "human", "content": "a"}]}',
            r":1: messages\[0\]\.role: 'human' is not one of",
            id="foreign role",
        ),
        pytest.param('{"messages": []}', r":1: messages: .* at least one", id="no message"),
        pytest.param(
            '{"messages": [{"role": "assistant", "content": "a"}]}',
            r":1: messages: .* response is due",
            id="answered",
        ),
        pytest.param('{"id": 7, "prompt": "a"}', r":1: id: expected text, got 7", id="id"),
        pytest.param(
            '{"reference": [], "prompt": "a"}', r":1: reference: expected", id="reference"
        ),
        pytest.param(
            '{"id": "x", "prompt": "a"}\n{"id": "x", "prompt": "b"}',
            r":2: id: 'x' is taken; make ids unique",
            id="same id",
        ),
        pytest.param(GOOD + GOOD, "one distinct conversation", id="too few"),
    ],
)
def test_a_bad_file_is_one_line_that_names_place_and_fix(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CorpusError, match=message) as caught:
        PromptsWorld(path, seed=0)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", ["missing", "folder", "binary"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "p.jsonl"
    if bad == "folder":
        path.mkdir()
    if bad == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorpusError, match=r"data\.path: .*; set data\.path=FILE") as caught:
        PromptsWorld(path, seed=0)
    assert "\n" not in str(caught.value)

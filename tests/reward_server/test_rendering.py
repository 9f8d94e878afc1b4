from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation, Message
from reward_server.errors import (
    CandidateTooLong,
    InvalidRequest,
    RenderingFailed,
    ServerStartError,
)
from reward_server.prefixes import common_prefix_length
from reward_server.protocol import ChatMessage, ScoreGroup
from reward_server.rendering import ChatRenderer, PairRenderer, at_most_one_bos, with_one_bos
from reward_server.scorer import RawInput
from reward_server.tokens import TokenInput
from tests.reward_server.engine.small import make_pair_tokenizer
from tests.reward_server.tiny import BOS, TEMPLATE, group, make_tokenizer

TOKENIZER = make_tokenizer()
CONVERSATIONS = [
    pytest.param(Conversation.ask("What helps a stuffy nose?"), id="one question"),
    pytest.param(Conversation.ask("Why?", system="Be brief."), id="system message"),
    pytest.param(
        Conversation(
            (
                Message("user", "I have a fever."),
                Message("assistant", "Since when?"),
                Message("user", "Three days — 39 °C\n\n"),
            )
        ),
        id="several turns",
    ),
]


def renderer(
    template: str | None = TEMPLATE, *, max_length: int = 256, marks_candidates: bool = False
) -> ChatRenderer:
    return ChatRenderer(
        make_tokenizer(template), max_length=max_length, marks_candidates=marks_candidates
    )


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_the_ids_are_those_that_trl_trains_on(conversation: Conversation, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    answers = ["Rest and drink.", " See a doctor!"]
    row: dict[str, Any] = {"prompt": conversation.to_dicts()}
    for side, answer in zip(("chosen", "rejected"), answers, strict=True):
        row[side] = [{"role": "assistant", "content": answer}]
    arguments = RewardConfig(output_dir=str(tmp_path), max_length=None, bf16=False, use_cpu=True)
    prepared = RewardTrainer._prepare_dataset(
        None, Dataset.from_list([row]), TOKENIZER, arguments, "train"
    )
    rendered = renderer().render(ScoreGroup.of("q1", conversation, answers), on_overflow="error")
    assert [list(item.ids) for item in rendered] == [
        prepared[0]["chosen_ids"],
        prepared[0]["rejected_ids"],
    ]


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(TEMPLATE, id="template with BOS"),
        pytest.param(TEMPLATE.removeprefix("{{ bos_token }}"), id="template without BOS"),
        pytest.param("{{ bos_token }}" + TEMPLATE, id="template with two"),
    ],
)
def test_an_input_starts_with_exactly_one_bos(template: str) -> None:
    (rendered,) = renderer(template).render(group("q1", "Rest."), on_overflow="error")
    bos = TOKENIZER.convert_tokens_to_ids(BOS)
    assert rendered.ids.index(bos) == 0
    assert rendered.ids.count(bos) == 1


def test_a_tokenizer_without_bos_gets_none() -> None:
    tokenizer = make_tokenizer(TEMPLATE.removeprefix("{{ bos_token }}"))
    tokenizer.bos_token = None
    (rendered,) = ChatRenderer(tokenizer, max_length=256).render(
        group("q1", "Rest."), on_overflow="error"
    )
    assert TOKENIZER.decode(rendered.ids).startswith("<|user|>")


@given(st.lists(st.integers(0, 5)), st.integers(0, 5))
def test_one_bos_is_put_in_front_and_nothing_else_is_touched(ids: list[int], bos: int) -> None:
    once = with_one_bos(ids, bos)
    assert once[0] == bos
    assert once[1:2] != [bos]
    assert with_one_bos(once, bos) == once
    assert [i for i in once if i != bos] == [i for i in ids if i != bos]


@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_the_common_prefix_is_common_and_cannot_be_longer(
    shared: list[int], left: list[int], right: list[int]
) -> None:
    a, b = shared + left, shared + right
    length = common_prefix_length(a, b)
    assert length >= len(shared)
    assert a[:length] == b[:length]
    assert a[length : length + 1] != b[length : length + 1] or length == len(a) == len(b)


@given(limit=st.integers(20, 80))
def test_truncation_cuts_the_beginning_of_the_conversation_only(limit: int) -> None:
    conversation = Conversation.ask("My nose is stuffy. " * 3 + "What helps?")
    long = ScoreGroup.of("q1", conversation, ["Steam and rest."])
    (whole,) = renderer().render(long, on_overflow="truncate")
    (cut,) = renderer(max_length=limit).render(long, on_overflow="truncate")
    excess = max(len(whole.ids) - limit, 0)
    assert cut.truncated_tokens == excess
    assert cut.ids == whole.ids[:1] + whole.ids[1 + excess :]


def test_a_long_input_is_an_error_that_names_the_counts() -> None:
    with pytest.raises(CandidateTooLong, match=r"'q1', candidate 1: \d+ tokens, limit 18;"):
        renderer(max_length=18).render(group(), on_overflow="error")


def test_a_candidate_is_never_cut() -> None:
    with pytest.raises(CandidateTooLong, match="no conversation would be left"):
        renderer(max_length=18).render(group("q1", "Steam. " * 9), on_overflow="truncate")


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(ServerStartError, match=r"no chat template.*chat_template\.jinja"):
        renderer(None)


def test_what_the_template_refuses_is_the_callers_error() -> None:
    strict = "{% if messages[0]['content'] == 'Why?' %}{{ raise_exception('no\nwhys') }}{% endif %}"
    refused = ScoreGroup.of("q1", Conversation.ask("Why?"), ["Because."])
    with pytest.raises(RenderingFailed, match=r"^group 'q1': no whys$"):
        renderer(strict + TEMPLATE).render(refused, on_overflow="error")


def test_a_template_that_cannot_render_at_all_is_refused() -> None:
    with pytest.raises(ServerStartError, match="cannot render a question"):
        renderer("{{ raise_exception('never') }}").sample()


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_a_marked_candidate_starts_behind_what_the_model_was_asked(
    conversation: Conversation,
) -> None:
    asked = ScoreGroup.of("q1", conversation, ["Rest.", "", "Steam — and rest!"])
    inputs = renderer(marks_candidates=True).render(asked, on_overflow="error")
    for item, candidate in zip(inputs, asked.candidates, strict=True):
        assert TOKENIZER.decode(item.ids[: item.start]).endswith("<|assistant|>")
        assert TOKENIZER.decode(item.ids[item.start :]) == candidate + "<|end|>"


def test_a_marked_candidate_that_was_cut_for_starts_earlier() -> None:
    long = ScoreGroup.of("q1", Conversation.ask("My nose. " * 20), ["Rest."])
    whole = renderer(marks_candidates=True).render(long, on_overflow="truncate")[0]
    cut = renderer(marks_candidates=True, max_length=40).render(long, on_overflow="truncate")[0]
    assert cut.ids[cut.start :] == whole.ids[whole.start :]
    assert cut.truncated_tokens == len(whole.ids) - 40


def test_a_prompt_ends_where_the_model_is_about_to_answer() -> None:
    messages = [ChatMessage(role="user", content="Why?")]
    item = renderer().render_prompt(messages)
    assert TOKENIZER.decode(item.ids) == "<|begin|><|user|>Why?<|end|><|assistant|>"
    with pytest.raises(CandidateTooLong, match=r"^\d+ tokens, limit 4; shorten it$"):
        renderer(max_length=4).render_prompt(messages)


def test_a_prompt_that_the_template_refuses_is_the_callers_error() -> None:
    strict = "{{ raise_exception('no\nprompts') }}"
    with pytest.raises(RenderingFailed, match=r"^no prompts$"):
        renderer(strict).render_prompt([ChatMessage(role="user", content="Why?")])


def test_texts_that_give_no_token_at_all_are_the_callers_error() -> None:
    tokenizer = make_tokenizer("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    tokenizer.bos_token = None
    bare = ChatRenderer(tokenizer, max_length=256)
    empty = ScoreGroup.of("q1", Conversation.ask(""), ["Rest.", ""])
    with pytest.raises(RenderingFailed, match="'q1', candidate 1: neither its texts nor its form"):
        bare.render(empty, on_overflow="error")
    with pytest.raises(RenderingFailed, match=r"^neither its texts"):
        bare.render_prompt(empty.messages)


def raw(*inputs: RawInput, max_length: int = 256, on_overflow: Any = "error") -> list[TokenInput]:
    return renderer(max_length=max_length).render_raw(inputs, on_overflow=on_overflow)


def test_raw_ids_are_taken_as_they_are() -> None:
    assert raw(RawInput(ids=(7, 0, 0, 9))) == [TokenInput((7, 0, 0, 9))]


@pytest.mark.parametrize("token", [-1, 10**6])
def test_raw_ids_that_no_token_has_are_refused(token: int) -> None:
    with pytest.raises(InvalidRequest, match=r"^input 1: a token id is not below \d+$"):
        raw(RawInput(ids=(1,)), RawInput(ids=(1, token)))


@pytest.mark.parametrize("given", [RawInput(text=""), RawInput(ids=())], ids=["text", "ids"])
def test_raw_inputs_without_a_token_are_refused(given: RawInput) -> None:
    with pytest.raises(InvalidRequest, match=r"^input 0: it has no tokens; send some text$"):
        raw(given)


def test_raw_text_that_somebody_rendered_gets_no_second_bos() -> None:
    (item,) = raw(RawInput(text=f"{BOS}{BOS}Rest."))
    assert TOKENIZER.decode(item.ids) == f"{BOS}Rest."
    (item,) = raw(RawInput(text="Rest."))
    assert TOKENIZER.decode(item.ids) == "Rest."


@given(st.lists(st.integers(0, 3)), st.integers(0, 3))
def test_a_run_of_bos_is_cut_down_and_none_is_added(ids: list[int], bos: int) -> None:
    found = at_most_one_bos(ids, bos)
    assert found == (with_one_bos(ids, bos) if ids[:1] == [bos] else ids)


def test_a_long_raw_input_is_refused_or_loses_its_beginning() -> None:
    bos = TOKENIZER.convert_tokens_to_ids(BOS)
    long = RawInput(ids=(bos, *range(10, 30)))
    with pytest.raises(CandidateTooLong, match="input 0: 21 tokens, limit 8; shorten it or allow"):
        raw(long, max_length=8)
    (item,) = raw(long, max_length=8, on_overflow="truncate")
    assert item == TokenInput((bos, *range(23, 30)), 0, truncated_tokens=13)


def pairs(*, max_length: int = 256) -> PairRenderer:
    return PairRenderer(make_pair_tokenizer(), max_length=max_length)


PAIRS = make_pair_tokenizer()
CLS, SEP = PAIRS.cls_token_id, PAIRS.sep_token_id


@pytest.mark.parametrize("candidate", ["Rest.", "", "Saline rinses and steam"])
def test_a_pair_is_what_its_tokenizer_makes_of_two_texts(candidate: str) -> None:
    (item,) = pairs().render(group("q1", candidate), on_overflow="error")
    expected = PAIRS(["What helps a stuffy nose?"], [candidate])
    assert list(item.ids) == expected["input_ids"][0]
    types = expected["token_type_ids"][0]
    assert [int(place >= item.start) for place in range(len(item.ids))] == types


def test_a_conversation_of_several_turns_is_a_line_a_turn() -> None:
    conversation = Conversation(
        (Message("user", "nose"), Message("assistant", "when"), Message("user", "days"))
    )
    (item,) = pairs().render(ScoreGroup.of("q1", conversation, ["rest"]), on_overflow="error")
    expected = PAIRS("user: nose\nassistant: when\nuser: days", "rest")["input_ids"]
    assert list(item.ids) == expected


@given(limit=st.integers(6, 30))
def test_a_pair_loses_the_beginning_of_its_conversation_only(limit: int) -> None:
    long = ScoreGroup.of("q1", Conversation.ask("What helps a stuffy nose? " * 4), ["Rest."])
    (whole,) = pairs().render(long, on_overflow="error")
    (cut,) = pairs(max_length=limit).render(long, on_overflow="truncate")
    excess = max(len(whole.ids) - limit, 0)
    assert cut.truncated_tokens == excess
    assert cut.ids == (CLS, *whole.ids[1 + excess :])
    assert cut.ids[cut.start :] == whole.ids[whole.start :]


def test_the_candidate_of_a_pair_is_never_cut() -> None:
    with pytest.raises(CandidateTooLong, match="no conversation would be left"):
        pairs(max_length=8).render(group("q1", "Rest. " * 9), on_overflow="truncate")
    with pytest.raises(CandidateTooLong, match=r"'q1', candidate 1: \d+ tokens, limit 12"):
        pairs(max_length=12).render(group("q1", "Rest.", "Rest. " * 9), on_overflow="error")


def test_an_encoder_answers_no_prompts() -> None:
    with pytest.raises(RenderingFailed):
        pairs().render_prompt([ChatMessage(role="user", content="Why?")])


def test_a_raw_pair_knows_where_its_second_text_starts() -> None:
    given = [RawInput(text="nose", pair="rest"), RawInput(text="nose"), RawInput(ids=(5, 6))]
    two, one, ids = pairs().render_raw(given, on_overflow="error")
    assert two.start == two.ids.index(SEP) + 1
    assert (one.start, ids.start) == (0, 0)
    assert one.ids[0] == CLS
    (bare,) = pairs().render_raw(
        [RawInput(text="nose", add_special_tokens=False)], on_overflow="error"
    )
    assert bare.ids == one.ids[1:-1]


def test_a_raw_pair_with_an_empty_text_is_still_a_pair() -> None:
    empty, alone = pairs().render_raw(
        [RawInput(text="nose", pair=""), RawInput(text="nose")], on_overflow="error"
    )
    (group_of_empty,) = pairs().render(
        ScoreGroup.of("q", Conversation.ask("nose"), [""]), on_overflow="error"
    )
    assert empty.ids == group_of_empty.ids != alone.ids


def test_a_raw_pair_keeps_the_token_that_the_head_reads() -> None:
    given = [RawInput(text="nose " * 9, pair="rest fever")]
    (cut,) = pairs(max_length=8).render_raw(given, on_overflow="truncate")
    (whole,) = pairs().render_raw(given, on_overflow="error")
    assert cut.ids == (CLS, *whole.ids[-7:])
    assert cut.ids[cut.start :] == whole.ids[whole.start :]
    (short,) = pairs(max_length=3).render_raw(given, on_overflow="truncate")
    assert short.ids == (CLS, *whole.ids[-2:])
    assert short.start == 1


def test_a_pair_says_so_where_a_template_would_stand() -> None:
    assert pairs().template == "pair"
    assert renderer().template == TEMPLATE

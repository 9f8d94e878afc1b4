from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation, Message
from reward_server.errors import CandidateTooLong, RenderingFailed, ServerStartError
from reward_server.protocol import ScoreGroup
from reward_server.rendering import Renderer, common_prefix_length, with_one_bos
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


def renderer(template: str | None = TEMPLATE, *, max_length: int = 256) -> Renderer:
    return Renderer(make_tokenizer(template), max_length=max_length)


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
    assert [item.ids for item in rendered] == [
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
    (rendered,) = Renderer(tokenizer, max_length=256).render(
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

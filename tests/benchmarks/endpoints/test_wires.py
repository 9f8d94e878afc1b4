"""Every wire against this project's real server: the rewards are those of the native wire."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import get_args

import pytest

from benchmarks.endpoints.base import Endpoint, Rewards
from benchmarks.endpoints.foreign import ForeignEndpoint
from benchmarks.endpoints.native import NativeEndpoint
from benchmarks.endpoints.rendering import ChatText
from benchmarks.endpoints.wires import WIRES, WireName
from benchmarks.endpoints.wires.asking import Asking
from benchmarks.endpoints.wires.base import Item, NotRaw, Refused
from corpora.conversation import Conversation, Message
from reward_server.client import ClientOptions
from reward_server.protocol import ScoreGroup

pytestmark = pytest.mark.anyio

ANSWERS = ["Rest.", "No.", "Saline rinses, steam and rest.", "Fever — 39 °C?", "See a doctor. " * 4]
WORDS = ["What", "helps", "a", "stuffy", "nose", "when", "the", "fever"]
QUESTIONS = [
    ScoreGroup.of(f"q{n}", Conversation.ask(" ".join(WORDS[: n + 1])), ANSWERS[: 1 + n % 5])
    for n in range(7)
]
TALK = ScoreGroup.of(
    "talk",
    Conversation(
        (
            Message("system", "Be brief."),
            Message("user", "I have a fever."),
            Message("assistant", "Since when?"),
            Message("user", "Three days — 39 °C"),
        )
    ),
    ANSWERS,
)
EMPTY = ScoreGroup.of("empty", Conversation.ask("Why?"), ["", " ", "Rest."])
LONG = ScoreGroup.of("long", Conversation.ask("Why?"), ["Rest.", "See a doctor. " * 200, "No."])
SICK = ScoreGroup.of("sick", Conversation.ask("Why?"), ["Rest.", "Q", "No."])

OF_PAIRS: tuple[WireName, ...] = ("vllm-score", "vllm-rerank", "tei-rerank")
"""Wires for encoders; the others are asked for a model of conversations."""

TOLERANCE = 1e-4


async def scored(endpoint: Endpoint, groups: Sequence[ScoreGroup]) -> list[Rewards]:
    async with aclosing(endpoint.score(groups)) as stream:
        found = [rewards async for rewards in stream]
    await endpoint.aclose()
    return found


def native(server: str, model: str = "default") -> NativeEndpoint:
    return NativeEndpoint(server, ClientOptions(model=model))


def foreign(
    server: str, name: WireName, folder: Path, *, model: str | None = None, size: int = 3
) -> ForeignEndpoint:
    wire = WIRES[name]
    renderer = ChatText.load(folder) if wire.needs_tokenizer else None
    if name == "slime":
        server += "/slime"
    if name in OF_PAIRS:
        model = model or "encoder"
    options = ClientOptions(concurrency=3, groups_per_request=size)
    return ForeignEndpoint(server, Asking(wire, model, renderer), options)


every_wire = pytest.mark.parametrize("name", WIRES)


def test_every_wire_has_its_name() -> None:
    assert set(WIRES) == set(get_args(WireName))


@every_wire
@pytest.mark.parametrize("size", [1, 3, 64])
async def test_a_wire_gives_the_rewards_of_the_native_one_in_order(
    server: str, model_folder: Path, name: WireName, size: int
) -> None:
    groups = [*QUESTIONS, EMPTY, *([] if name == "oat" else [TALK])]
    found = await scored(foreign(server, name, model_folder, size=size), groups)
    wanted = await scored(native(server, "encoder" if name in OF_PAIRS else "default"), groups)
    assert len(found) == len(wanted) == len(groups)
    for ours, theirs in zip(wanted, found, strict=True):
        assert theirs.errors == ours.errors == (None,) * len(ours.rewards)
        assert theirs.rewards == pytest.approx(ours.rewards, abs=TOLERANCE)
    assert len({rewards.rewards[0] for rewards in found}) > 5  # or the order would say nothing
    assert all(
        rewards.tokens in (0, same.tokens) for rewards, same in zip(found, wanted, strict=True)
    )


@every_wire
async def test_a_candidate_that_is_too_long_is_an_error_beside_rewards(
    server: str, model_folder: Path, name: WireName
) -> None:
    first, long, last = await scored(
        foreign(server, name, model_folder), [QUESTIONS[4], LONG, QUESTIONS[2]]
    )
    assert [reward is None for reward in long.rewards] == [False, True, False]
    assert long.errors[1] is not None
    assert "limit" in long.errors[1]
    assert None not in (*first.rewards, *last.rewards)


@pytest.mark.parametrize(
    "name",
    [name for name in WIRES if name not in OF_PAIRS and WIRES[name].names_model != "nowhere"],
)
async def test_a_reward_that_is_not_finite_is_an_error_on_every_wire(
    server: str, sick_folder: Path, name: WireName
) -> None:
    (found,) = await scored(foreign(server, name, sick_folder, model="sick"), [SICK])
    assert [reward is None for reward in found.rewards] == [False, True, False]
    assert found.errors[1] is not None
    assert "non_finite_reward" in found.errors[1]


@every_wire
async def test_the_fingerprint_comes_with_the_answer(
    server: str, model_folder: Path, name: WireName
) -> None:
    endpoint = foreign(server, name, model_folder)
    described = await endpoint.describe()
    await endpoint.aclose()
    wanted = native(server, "encoder" if name in OF_PAIRS else "default")
    assert described.fingerprint == (await wanted.describe()).fingerprint
    assert described.kind is None
    assert not described.sees_rivals
    await wanted.aclose()


async def test_oat_cannot_carry_a_conversation_of_several_turns(
    server: str, tmp_path: Path
) -> None:
    talk, question = await scored(foreign(server, "oat", tmp_path), [TALK, QUESTIONS[0]])
    assert talk.rewards == (None,) * 5
    assert talk.errors[0] is not None
    assert talk.errors[0].startswith("unsupported_input: the wire carries a single message")
    assert question.errors == (None,)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        pytest.param("openrlhf", b'{"rewards": [null, NaN]}', [None, "nan"], id="openrlhf"),
        pytest.param("openrlhf", b'{"rewards": ["1", 2]}', "rewards.0", id="a text"),
        pytest.param("openrlhf", b"<html>", "malformed_answer", id="no JSON"),
        pytest.param("tei-predict", b'[[{"score": 1}, {"score": 2}]]', "several_numbers", id="tei"),
        pytest.param("tei-rerank", b'[{"index": 1, "score": 2}]', [None, 2.0], id="a rank missing"),
        pytest.param("vllm-score", b'{"data": [{"index": 2, "score": 2}]}', "index 2", id="index"),
        pytest.param(
            "vllm-rerank",
            b'{"results": [{"index": 1, "relevance_score": 1}, {"index": 1, "relevance_score": 2}'
            b"]}",
            "index 1 twice",
            id="twice",
        ),
        pytest.param(
            "vllm-classify", b'{"data": [{"probs": [1, 2]}]}', "several_numbers", id="vllm"
        ),
        pytest.param("vllm-pooling", b'{"data": [{"data": [[1], [2]]}]}', "malformed", id="tokens"),
        pytest.param("slime", b'{"score": 1.5, "len": 3}', [1.5], id="slime's object"),
        pytest.param("slime", b'{"a": 1.5}', [1.5], id="slime's key"),
        pytest.param("slime", b'{"a": 1.5, "b": 2}', "malformed_answer", id="no score"),
        pytest.param("slime", b"true", "malformed_answer", id="no number"),
        pytest.param(
            "nim", b'{"choices": [{"message": {"content": "-1.25"}}]}', [-1.25], id="bare number"
        ),
        pytest.param(
            "nim",
            b'{"choices": [{"message": {"content": "helpfulness:1,verbosity:2"}}]}',
            "several_numbers",
            id="attributes",
        ),
        pytest.param(
            "nim", b'{"choices": [{"message": {"content": "Sure!"}}]}', "name:number", id="chat"
        ),
        pytest.param("kserve", b'{"outputs": []}', "none is called rewards", id="kserve"),
        pytest.param("oat", b"\xc1", "MessagePack", id="oat"),
        pytest.param("oat", b"\x80", "batch_score", id="oat without scores"),
    ],
)
def test_an_answer_is_read_as_it_is_or_refused(
    name: WireName, content: bytes, problem: str | list[float | str | None]
) -> None:
    if isinstance(problem, str):
        with pytest.raises(Refused, match=problem):
            WIRES[name].read(content, 2)
    else:
        numbers = [found.number for found in WIRES[name].read(content, 2)]
        assert [str(n) if str(n) == "nan" else n for n in numbers] == problem


def test_a_softmax_of_one_number_is_no_reward() -> None:
    content = b'{"data": [{"index": 0, "probs": [1.0]}, {"index": 1, "probs": [1.0]}]}'
    with pytest.raises(NotRaw, match="use --wire sglang"):
        WIRES["sglang-classify"].read(content, 2)


@pytest.mark.parametrize(
    ("name", "server", "model", "url"),
    [
        ("openrlhf", "http://a:1", None, "http://a:1/get_reward"),
        ("openrlhf", "http://a:1/get_reward", "rm", "http://a:1/get_reward?model=rm"),
        ("slime", "http://a:1/rm?reward_key=score", None, "http://a:1/rm?reward_key=score"),
        ("vllm-score", "https://a/v1/", "rm", "https://a/v1/score"),
        ("kserve", "http://a:1", "a/b", "http://a:1/v2/models/a%2Fb/infer"),
        ("kserve", "http://a:1", None, "http://a:1/v2/models/default/infer"),
    ],
)
def test_the_path_of_a_wire_stands_behind_the_server(
    name: WireName, server: str, model: str | None, url: str
) -> None:
    assert str(Asking(WIRES[name], model).url(server)) == url


@pytest.mark.parametrize(
    ("carries", "per_request", "sizes"),
    [
        (["vllm-classify", "slime"], 5, [1] * 8),
        (["vllm-rerank"], 5, [1, 2, 3, 2]),
        (["openrlhf", "oat"], 1, [1, 2, 3, 2]),
        (["openrlhf"], 3, [6, 2]),
        (["openrlhf"], 9, [8]),
    ],
)
def test_requests_hold_what_their_wire_can_carry(
    carries: list[WireName], per_request: int, sizes: list[int]
) -> None:
    groups = [QUESTIONS[number] for number in (0, 1, 2, 1)]
    for name in carries:
        requests = list(Asking(WIRES[name]).cut(groups, per_request))
        assert [len(items) for items in requests] == sizes
        assert [item for items in requests for item in items] == [
            Item(group, place) for group in groups for place in range(len(group.candidates))
        ]

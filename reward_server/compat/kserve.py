"""The Open Inference Protocol (KServe v2, Triton) as NeMo-Aligner's reward server speaks it.

Peer: NeMo-Aligner at commit af2b3bd9 (May 2025, its last), ``algorithms/reward_server.py`` behind
PyTriton, and the protocol's own page. Inputs are ``sentences`` (BYTES), or ``tokens`` with
``sequence_lengths`` (INT64); the output is ``rewards`` (FP32). JSON only: tensors in binary, which
Triton's Python client sends unless told otherwise, are refused with the way to send JSON.

Nothing is squashed. Sentences are texts that the client rendered, special tokens included. What is
too long is refused; the peer cuts its end, where the reward is read. A model of several objectives
answers with its one reward.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, Literal, NoReturn

from fastapi import APIRouter, Request, Response
from pydantic import Field

from reward_server.compat.base import Answer, Foreign, TokenId, rewards_of
from reward_server.compat.dialect import DialectRoute, Refusal, Written, openai_status, refusals
from reward_server.dependencies import ReadyDep, ScoringDep
from reward_server.errors import Draining, InvalidRequest
from reward_server.protocol import ModelInfo, Text
from reward_server.scorer import RawInput, RawRequest, RawScored

BINARY_HEADER = "inference-header-content-length"
OUTPUT = "rewards"
AS_JSON = "send JSON; with tritonclient.http, set_data_from_numpy(…, binary_data=False)"


class KServeError(Answer):
    """What is wrong, as the protocol says it."""

    error: str


def kserve_error(refusal: Refusal) -> Written:
    """A refusal as the protocol has it."""
    return Written(openai_status(refusal.error), KServeError(error=str(refusal.error)))


class KServeRoute(DialectRoute):
    """Refuses in the protocol's words, and binary tensors before they are taken for JSON."""

    def words(self, refusal: Refusal, body: bytes) -> Written:
        """As :func:`kserve_error`."""
        return kserve_error(refusal)

    def check(self, request: Request) -> None:
        """Refuses bodies with binary tensors."""
        if BINARY_HEADER in request.headers:
            raise InvalidRequest(f"{BINARY_HEADER}: no binary tensors are read here; {AS_JSON}")

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of any body, since Triton reads JSON whatever its type is called."""
        answer = super().get_route_handler()

        async def handle(request: Request) -> Response:
            headers = [each for each in request.scope["headers"] if each[0] != b"content-type"]
            headers.append((b"content-type", b"application/json"))
            return await answer(Request({**request.scope, "headers": headers}, request.receive))

        return handle


router = APIRouter(route_class=KServeRoute, tags=["KServe v2"])

Shape = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=2)]


class KServeTensor(Foreign):
    """What all inputs have in common; ``data`` is flat or nested by rows."""

    name: str
    shape: Shape
    parameters: dict[str, Any] | None = None


class KServeSentences(KServeTensor):
    """Texts, of shape ``[n]`` or ``[n, 1]``."""

    name: Literal["sentences"]
    datatype: Literal["BYTES"]
    data: list[Text] | list[list[Text]]


class KServeTokens(KServeTensor):
    """Token ids of shape ``[n, length]``, each row filled up at its end."""

    name: Literal["tokens"]
    datatype: Literal["INT64", "INT32"]
    data: list[TokenId] | list[list[TokenId]]


class KServeLengths(KServeTensor):
    """How many tokens of each row count, of shape ``[n]`` or ``[n, 1]``."""

    name: Literal["sequence_lengths"]
    datatype: Literal["INT64", "INT32"]
    data: list[TokenId] | list[list[TokenId]]


class KServeWanted(Foreign):
    """An output that is asked for."""

    name: Literal["rewards"]


class KServeRequest(Foreign):
    """An inference request."""

    id: Text | None = None
    inputs: Annotated[
        list[
            Annotated[KServeSentences | KServeTokens | KServeLengths, Field(discriminator="name")]
        ],
        Field(min_length=1, max_length=2),
    ]
    outputs: list[KServeWanted] | None = None


class KServeRewards(Answer):
    """The rewards, of shape ``[n, 1]``."""

    name: Literal["rewards"] = "rewards"
    datatype: Literal["FP32"] = "FP32"
    shape: list[int]
    data: list[float]


class KServeAnswer(Answer):
    """An inference response."""

    model_name: str
    model_version: Literal["1"] = "1"
    id: str | None = None
    """As in the request, where it has one."""

    outputs: list[KServeRewards]


class KServeTensorInfo(Answer):
    """Name, type and shape of an input or output; -1 is any length."""

    name: str
    datatype: str
    shape: list[int]


class KServeModel(Answer):
    """Metadata of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[KServeTensorInfo]
    outputs: list[KServeTensorInfo]


class KServeLive(Answer):
    """Answer of ``/v2/health/live``."""

    live: Literal[True] = True


class KServeReady(Answer):
    """Answer of ``/v2/health/ready``."""

    ready: Literal[True] = True


class KServeModelReady(Answer):
    """Answer of a model's ``ready``."""

    name: str
    ready: Literal[True] = True


def to_raw(body: KServeRequest, *, model: str) -> RawRequest:
    """Sentences as they are, or rows of tokens cut to their lengths.

    Raises:
        InvalidRequest: if the inputs do not belong together, or their data not to their shape.
    """
    for tensor in body.inputs:
        if "binary_data_size" in (tensor.parameters or {}):
            raise InvalidRequest(f"{tensor.name}: no binary tensors are read here; {AS_JSON}")
    match sorted(body.inputs, key=lambda tensor: tensor.name):
        case [KServeSentences() as sentences]:
            texts = _column(sentences, sentences.data)
            inputs = [RawInput(text=text, add_special_tokens=False) for text in texts]
        case [KServeLengths() as lengths, KServeTokens() as tokens]:
            inputs = _token_inputs(tokens, lengths)
        case _:
            raise InvalidRequest("inputs: give sentences alone, or tokens with sequence_lengths")
    return RawRequest(inputs=tuple(inputs), model=model)


def from_raw(scored: RawScored, body: KServeRequest, *, model: str) -> KServeAnswer:
    """The rewards as a column.

    Raises:
        UnsupportedInput, NoReward: if one is missing.
    """
    rewards = rewards_of(scored.results)
    output = KServeRewards(shape=[len(rewards), 1], data=rewards)
    return KServeAnswer(model_name=model, id=body.id, outputs=[output])


def from_info(info: ModelInfo) -> KServeModel:
    """What the protocol tells of a model."""
    return KServeModel(
        name=info.name,
        versions=["1"],
        platform="medpref",
        inputs=[
            KServeTensorInfo(name="sentences", datatype="BYTES", shape=[-1, 1]),
            KServeTensorInfo(name="tokens", datatype="INT64", shape=[-1, -1]),
            KServeTensorInfo(name="sequence_lengths", datatype="INT64", shape=[-1, 1]),
        ],
        outputs=[KServeTensorInfo(name=OUTPUT, datatype="FP32", shape=[-1, 1])],
    )


def _token_inputs(tokens: KServeTokens, lengths: KServeLengths) -> list[RawInput]:
    rows = _rows(tokens, tokens.data)
    counts = _column(lengths, lengths.data)
    if len(rows) != len(counts):
        raise InvalidRequest(f"sequence_lengths: {len(counts)} for {len(rows)} rows of tokens")
    for index, (row, count) in enumerate(zip(rows, counts, strict=True)):
        if not 1 <= count <= len(row):
            raise InvalidRequest(
                f"sequence_lengths[{index}]: {count}, limits 1 and {len(row)}, the row's tokens"
            )
    return [RawInput(ids=tuple(row[:count])) for row, count in zip(rows, counts, strict=True)]


def _column(tensor: KServeTensor, data: Sequence[Any]) -> list[Any]:
    if tensor.shape[1:] not in ([], [1]):
        raise InvalidRequest(f"{tensor.name}: shape {tensor.shape}; make it [n, 1]")
    return [row[0] for row in _rows(tensor, data)]


def _rows(tensor: KServeTensor, data: Sequence[Any]) -> list[list[Any]]:
    height, width = (*tensor.shape, 1)[:2]
    if data and isinstance(data[0], list):
        rows = list(data)
    else:
        # Only what is there is cut into rows: a shape can promise more than memory holds.
        rows = [list(data[start : start + width]) for start in range(0, len(data), width)]
    if len(rows) != height or any(len(row) != width for row in rows):
        raise InvalidRequest(f"{tensor.name}: data does not have the shape {tensor.shape}")
    return rows


RESPONSES = refusals(KServeError, 400, 401, 403, 404, 408, 413, 429, 500, 503, 504)


@router.post("/v2/models/{name}/infer", responses=RESPONSES, response_model_exclude_none=True)
async def kserve_infer(name: str, body: KServeRequest, scoring: ScoringDep) -> KServeAnswer:
    """The protocol's inference: raw rewards of sentences, or of rows of token ids."""
    info = scoring.find(name)
    return from_raw(await scoring.score_raw(to_raw(body, model=name)), body, model=info.name)


@router.get("/v2/models/{name}", responses=RESPONSES)
async def kserve_model(name: str, scoring: ScoringDep) -> KServeModel:
    """The protocol's metadata of a model."""
    return from_info(scoring.find(name))


@router.get("/v2/models/{name}/ready", responses=RESPONSES)
async def kserve_model_ready(
    name: str, scoring: ScoringDep, is_ready: ReadyDep
) -> KServeModelReady:
    """Answers 200 while the model would be scored with, else 503."""
    return KServeModelReady(name=scoring.find(name).name) if is_ready else _not_ready()


@router.get("/v2/health/live")
async def kserve_live() -> KServeLive:
    """Answers as long as the process serves HTTP."""
    return KServeLive()


@router.get("/v2/health/ready", responses=refusals(KServeError, 503))
async def kserve_ready(is_ready: ReadyDep) -> KServeReady:
    """Answers 200 while inference requests would be answered, else 503."""
    return KServeReady() if is_ready else _not_ready()


def _not_ready() -> NoReturn:
    raise Draining("the server does not take requests now")

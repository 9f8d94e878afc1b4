"""text-embeddings-inference: ``/predict``, ``/rerank`` and ``/info``.

Peer: text-embeddings-inference 1.9.3, ``router/src/http/{types,server}.rs``. ``/rerank`` shares its
path with another peer's and is reached through ``rerank``.

Squashed by default: ``raw_scores`` is false unless given, and then a reward is the sigmoid of the
logit (softmax of several). Two strings in a flat list are one pair, not two texts; texts in a
batch are lists of one string. Inputs that are too long are refused unless ``truncate`` is true;
then the beginning is cut, whatever ``truncation_direction`` says: the reward is read at the end.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from reward_server.compat.base import (
    DEFAULT,
    Answer,
    Foreign,
    ModelQuery,
    NoReward,
    Numbers,
    numbers_of_raw,
    probabilities,
    rewards_of,
    sigmoid,
)
from reward_server.compat.dialect import DialectRoute, Refusal, Written, refusals
from reward_server.dependencies import ScoringDep
from reward_server.errors import UnsupportedInput
from reward_server.protocol import ModelInfo, Text
from reward_server.scorer import RawInput, RawRequest, RawScored, Scoring

ErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]
TeiSequence = Annotated[list[Text], Field(min_length=1, max_length=2)]
"""A text, or a pair of texts that the tokenizer joins."""


class TeiError(Answer):
    """What is wrong, as text-embeddings-inference says it."""

    error: str
    error_type: ErrorType


def tei_error(refusal: Refusal) -> Written:
    """A refusal as text-embeddings-inference writes it."""
    status, kind = _status(refusal)
    return Written(status, TeiError(error=str(refusal.error), error_type=kind))


def _status(refusal: Refusal) -> tuple[int, ErrorType]:
    if refusal.field == "texts" and refusal.rule == "too_short":
        return 400, "Empty"
    if isinstance(refusal.error, NoReward | UnsupportedInput):
        return 424, "Backend"
    kinds: dict[int, ErrorType] = {
        429: "Overloaded",
        500: "Backend",
        503: "Unhealthy",
        504: "Backend",
    }
    status = refusal.error.status
    return status, kinds.get(status, "Validation")


class TeiRoute(DialectRoute):
    """Refuses in TEI's words."""

    def words(self, refusal: Refusal, body: bytes) -> Written:
        """As :func:`tei_error`."""
        return tei_error(refusal)


router = APIRouter(route_class=TeiRoute, tags=["text-embeddings-inference"])


class TeiOptions(Foreign):
    """What both requests may say."""

    truncate: bool | None = None
    truncation_direction: Literal["Left", "Right"] = "Right"
    raw_scores: bool = False


class TeiPredictRequest(TeiOptions):
    """What to classify."""

    inputs: Text | TeiSequence | Annotated[list[TeiSequence], Field(min_length=1)]
    """A text, a pair ``["q", "a"]``, or a batch ``[["t"], ["q", "a"], …]``."""


class TeiRerankRequest(TeiOptions):
    """A query and the texts to rank by it."""

    query: Text
    texts: Annotated[list[Text], Field(min_length=1)]
    return_text: bool = False


class TeiPrediction(Answer):
    """One label of one input."""

    score: float
    label: str


class TeiRank(Answer):
    """The place of one text."""

    index: int
    text: str | None = None
    """There only where it was asked for."""

    score: float


class TeiLabels(Answer):
    """Names of the labels."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class TeiClassifier(Answer):
    """A model with several labels."""

    classifier: TeiLabels


class TeiReranker(Answer):
    """A model with one label."""

    reranker: TeiLabels


class TeiInfo(Answer):
    """Answer of ``/info``, less the settings that this server has none of."""

    model_id: str
    model_sha: str | None
    model_dtype: str | None
    served_model_name: str
    model_type: TeiReranker | TeiClassifier
    max_input_length: int | None
    auto_truncate: bool


def to_raw(body: TeiPredictRequest, *, model: str) -> RawRequest:
    """The inputs; a flat list is one input."""
    inputs = body.inputs
    sequences: list[list[str]]
    if isinstance(inputs, str):
        sequences = [[inputs]]
    else:
        sequences = [each for each in inputs if isinstance(each, list)] or [
            [each for each in inputs if isinstance(each, str)]
        ]
    return _request([tuple(each) for each in sequences], body, model=model)


def to_pairs(body: TeiRerankRequest, *, model: str) -> RawRequest:
    """The query with each text."""
    return _request([(body.query, text) for text in body.texts], body, model=model)


def from_predictions(
    numbers: Numbers, body: TeiPredictRequest
) -> list[TeiPrediction] | list[list[TeiPrediction]]:
    """Labels with the highest score first; a list of lists for a batch."""
    batch = [_predictions(row, numbers.labels, body) for row in numbers.rows]
    is_batch = isinstance(body.inputs, list) and isinstance(body.inputs[0], list)
    return batch if is_batch else batch[0]


def from_ranks(scored: RawScored, body: TeiRerankRequest) -> list[TeiRank]:
    """The best first, equals in the order of the request.

    Raises:
        UnsupportedInput, NoReward: if a reward is missing.
    """
    rewards = rewards_of(scored.results)
    scores = rewards if body.raw_scores else [sigmoid(reward) for reward in rewards]
    order = sorted(range(len(scores)), key=lambda index: scores[index], reverse=True)
    if body.return_text:
        return [TeiRank(index=i, text=body.texts[i], score=scores[i]) for i in order]
    return [TeiRank(index=i, score=scores[i]) for i in order]


def from_info(info: ModelInfo) -> TeiInfo:
    """What is known of the model, in TEI's fields."""
    width = info.identity.head.num_labels if info.identity.head else 1
    names = {str(index): f"LABEL_{index}" for index in range(width)}
    labels = TeiLabels(id2label=names, label2id={name: int(i) for i, name in names.items()})
    return TeiInfo(
        model_id=info.name,
        model_sha=info.revision,
        model_dtype=info.identity.dtype,
        served_model_name=info.name,
        model_type=TeiReranker(reranker=labels) if width == 1 else TeiClassifier(classifier=labels),
        max_input_length=info.max_length,
        auto_truncate=False,
    )


def _request(sequences: list[tuple[str, ...]], body: TeiOptions, *, model: str) -> RawRequest:
    return RawRequest(
        inputs=tuple(
            RawInput(text=first, pair=rest[0] if rest else None) for first, *rest in sequences
        ),
        model=model,
        on_overflow="truncate" if body.truncate else "error",
    )


def _predictions(
    row: tuple[float, ...], labels: tuple[str, ...], body: TeiPredictRequest
) -> list[TeiPrediction]:
    scores = list(row) if body.raw_scores else probabilities(row)
    found = [
        TeiPrediction(score=score, label=label) for score, label in zip(scores, labels, strict=True)
    ]
    return sorted(found, key=lambda prediction: prediction.score, reverse=True)


@router.post(
    "/predict",
    responses=refusals(TeiError, 400, 401, 403, 404, 408, 413, 422, 424, 429, 500, 503, 504),
)
async def tei_predict(
    body: TeiPredictRequest, scoring: ScoringDep, model: ModelQuery = DEFAULT
) -> list[TeiPrediction] | list[list[TeiPrediction]]:
    """TEI's ``/predict``: the numbers of the head, squashed unless ``raw_scores`` is true."""
    scored = await scoring.score_raw(to_raw(body, model=model))
    return from_predictions(numbers_of_raw(scored), body)


async def rank(body: TeiRerankRequest, scoring: Scoring, *, model: str) -> list[TeiRank]:
    """Ranks texts by their score with the query.

    Raises:
        RewardServerError: if the request cannot be scored as a whole.
    """
    return from_ranks(await scoring.score_raw(to_pairs(body, model=model)), body)


@router.get("/info", responses=refusals(TeiError, 401, 403, 404, 422, 429, 500, 503))
async def tei_info(scoring: ScoringDep, model: ModelQuery = DEFAULT) -> TeiInfo:
    """TEI's ``/info``: which model answers."""
    return from_info(scoring.find(model))

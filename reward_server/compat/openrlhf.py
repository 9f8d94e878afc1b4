"""OpenRLHF's remote reward model, ``POST /get_reward``.

Peer: OpenRLHF 0.11.0, ``cli/serve_rm.py`` and the client in ``utils/agent.py``. The client sends
the text that its policy read and wrote, special tokens included, and reads lists of exactly the
length of ``query``. With several servers it sends some of them an empty list, which is answered
with empty lists.

Nothing is squashed: ``rewards`` and ``scores`` are the raw rewards. The wire knows neither
conversations nor model names: the policy's chat template is what the reward model reads.
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field

from reward_server.compat.base import DEFAULT, Answer, Foreign, ModelQuery, rewards_of
from reward_server.dependencies import ScoringDep
from reward_server.problems import problems
from reward_server.protocol import Text
from reward_server.scorer import RawInput, RawRequest, RawScored

router = APIRouter(tags=["OpenRLHF"])


class OpenRLHFRequest(Foreign):
    """What the client sends; its ``prompts`` and ``labels`` decide nothing here."""

    query: list[Text]
    """Prompt and response as one text, as the policy's tokenizer decodes it."""


class OpenRLHFAnswer(Answer):
    """Lists of the length of ``query``."""

    rewards: list[float]
    scores: list[float]
    """The rewards again: what dynamic filtering compares with its range."""

    extra_logs: dict[str, list[float]] = Field(default_factory=dict)
    """``reward_tokens``: length of each scored text in tokens."""


def to_raw(body: OpenRLHFRequest, *, model: str) -> RawRequest:
    """The texts as they are; special tokens are in them already."""
    inputs = tuple(RawInput(text=text, add_special_tokens=False) for text in body.query)
    return RawRequest(inputs=inputs, model=model)


def from_raw(scored: RawScored) -> OpenRLHFAnswer:
    """The rewards under both of their names.

    Raises:
        UnsupportedInput, NoReward: if one is missing.
    """
    rewards = rewards_of(scored.results)
    tokens = [float(result.tokens) for result in scored.results]
    return OpenRLHFAnswer(rewards=rewards, scores=rewards, extra_logs={"reward_tokens": tokens})


@router.post(
    "/get_reward", responses=problems(400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504)
)
async def openrlhf_get_reward(
    body: OpenRLHFRequest, scoring: ScoringDep, model: ModelQuery = DEFAULT
) -> OpenRLHFAnswer:
    """OpenRLHF's ``/get_reward``: raw rewards of texts that the policy's tokenizer rendered."""
    if not body.query:
        scoring.find(model)
        return OpenRLHFAnswer(rewards=[], scores=[], extra_logs={"reward_tokens": []})
    return from_raw(await scoring.score_raw(to_raw(body, model=model)))

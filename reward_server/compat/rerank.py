"""``POST /rerank``, a path that two peers have: vLLM with ``documents``, and TEI with ``texts``.

The body decides whose answer it gets, and in whose words it is refused. Knows neither's rules.
"""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Discriminator, Tag

from reward_server.compat import tei, vllm
from reward_server.compat.base import DEFAULT, ModelQuery
from reward_server.compat.dialect import (
    OpenAIError,
    OpenAIRoute,
    Refusal,
    Written,
    refusals,
)
from reward_server.compat.tei import TeiError, TeiRank, TeiRerankRequest, tei_error
from reward_server.compat.vllm_bodies import VllmRanking, VllmRerankRequest
from reward_server.dependencies import ScoringDep


def peer_of(body: object) -> str | None:
    """Whose request a body is: with ``documents`` it is vLLM's, whatever else it has."""
    if not isinstance(body, dict):
        return None
    return "tei-form" if "texts" in body and "documents" not in body else "vllm-form"


RerankBody = Annotated[
    Annotated[VllmRerankRequest, Tag("vllm-form")] | Annotated[TeiRerankRequest, Tag("tei-form")],
    Discriminator(
        peer_of,
        custom_error_type="form",
        custom_error_message="give an object with query and documents",
    ),
]


class RerankRoute(OpenAIRoute):
    """Refuses in the words of whoever asked."""

    def words(self, refusal: Refusal, body: bytes) -> Written:
        """TEI's for a body of its own, else vLLM's."""
        try:
            is_tei = peer_of(json.loads(body)) == "tei-form"
        except (ValueError, RecursionError):
            is_tei = False
        return tei_error(refusal) if is_tei else super().words(refusal, body)


router = APIRouter(
    route_class=RerankRoute,
    tags=["vLLM", "text-embeddings-inference"],
    responses=refusals(
        OpenAIError | TeiError, 400, 401, 403, 404, 408, 413, 422, 424, 429, 500, 503, 504
    ),
)


@router.post("/rerank", response_model_exclude_unset=True)
async def rerank(
    body: RerankBody, scoring: ScoringDep, request: Request, model: ModelQuery = DEFAULT
) -> VllmRanking | list[TeiRank]:
    """``/rerank`` of vLLM (``documents``) and of text-embeddings-inference (``texts``)."""
    if isinstance(body, VllmRerankRequest):
        return await vllm.rank(body, scoring, request)
    return await tei.rank(body, scoring, model=model)

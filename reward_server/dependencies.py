"""What FastAPI hands to the routes of every wire."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from reward_server.scorer import Scoring


def get_scoring(request: Request) -> Scoring:
    """The service of the application, bound to who sent the request."""
    scoring: Scoring = request.app.state.scoring_for(request)
    return scoring


def get_readiness(request: Request) -> bool:
    """Whether a request would be scored now."""
    is_ready: bool = request.app.state.is_ready()
    return is_ready


ScoringDep = Annotated[Scoring, Depends(get_scoring)]
ReadyDep = Annotated[bool, Depends(get_readiness)]

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpora.conversation import Conversation
from reward_server.audit_record import (
    AuditRecord,
    Entry,
    content_hash,
    content_hashes,
    describe,
)
from reward_server.errors import Overloaded
from reward_server.protocol import (
    CandidateResult,
    ChatMessage,
    GroupResult,
    ItemError,
    ScoreGroup,
    ScoreRequest,
    ScoreResponse,
    Usage,
)
from reward_server.scorer import RawInput, RawRequest, RawScored

WORDS = ("stuffy", "Rest", "Steam", "patient-7", "the known answer")
GROUP = ScoreGroup(
    id="patient-7",
    messages=(ChatMessage(role="user", content="What helps a stuffy nose?"),),
    candidates=("Rest.", "Steam helps."),
    reference="the known answer",
)
BROKEN = ItemError(code="non_finite_reward", detail="the model gave nan")
RESULTS = (
    CandidateResult(reward=0.1 + 0.2, tokens=7, truncated_tokens=2),
    CandidateResult(reward=None, tokens=8, error=BROKEN),
)
ANSWER = ScoreResponse(
    model="default",
    fingerprint="feed",
    groups=(GroupResult(id=GROUP.id, results=RESULTS),),
    usage=Usage(tokens=15, computed_tokens=15),
)


def entry(request_id: str = "r1", **changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "request_id": request_id,
        "caller": "loop",
        "route": "/v1/score",
        "request": ScoreRequest(groups=(GROUP,), lane="bulk", on_overflow="truncate"),
        "outcome": ANSWER,
        "seconds": 0.0123456,
        "model": "default",
        "fingerprint": "feed",
        "time": datetime(2026, 6, 1, 12, tzinfo=UTC),
    }
    return Entry(**fields | changes)


def raw(*inputs: RawInput) -> RawRequest:
    return RawRequest(inputs=inputs)


def test_a_record_says_who_had_what_scored_by_which_model_and_how() -> None:
    record = describe(entry(), include_text=False)
    assert json.loads(record.model_dump_json(exclude_none=True)) == {
        "time": "2026-06-01T12:00:00Z",
        "request_id": "r1",
        "caller": "loop",
        "route": "/v1/score",
        "model": "default",
        "fingerprint": "feed",
        "lane": "bulk",
        "on_overflow": "truncate",
        "milliseconds": 12.346,
        "status": 200,
        "groups": [
            {
                "candidates": [
                    {
                        "content": content_hash(GROUP, 0),
                        "tokens": 7,
                        "truncated_tokens": 2,
                        "reward": 0.30000000000000004,
                    },
                    {
                        "content": content_hash(GROUP, 1),
                        "tokens": 8,
                        "truncated_tokens": 0,
                        "error": "non_finite_reward",
                    },
                ]
            }
        ],
        "inputs": [],
    }


def test_a_refused_request_leaves_its_problem_and_no_results() -> None:
    record = describe(entry(outcome=Overloaded("too much")), include_text=False)
    assert (record.status, record.code) == (429, "overloaded")
    candidates = record.groups[0].candidates
    assert [item.content for item in candidates] == content_hashes(GROUP)
    assert all(item.reward is None and item.error is None for item in candidates)


def test_rendered_inputs_are_recorded_one_by_one() -> None:
    inputs = (RawInput(text="Rest."), RawInput(ids=(1, 2, 3)))
    scored = RawScored(results=RESULTS, usage=Usage(tokens=15, computed_tokens=15), labels=())
    record = describe(entry(request=raw(*inputs), outcome=scored), include_text=False)
    assert record.groups == ()
    assert [item.tokens for item in record.inputs] == [7, 8]
    assert len({item.content for item in record.inputs}) == 2
    refused = describe(entry(request=raw(*inputs), outcome=Overloaded("x")), include_text=False)
    assert [item.content for item in refused.inputs] == [item.content for item in record.inputs]


@pytest.mark.parametrize("request_", [entry().request, raw(RawInput(text="Rest.", pair="Steam"))])
def test_no_word_of_a_request_is_in_its_record_unless_asked_for(request_: Any) -> None:
    given = entry(request=request_, outcome=Overloaded("x"))
    line = describe(given, include_text=False).model_dump_json()
    assert not any(word in line for word in WORDS)
    line = describe(given, include_text=True).model_dump_json()
    assert "Rest." in line
    assert AuditRecord.model_validate_json(line) == describe(given, include_text=True)


def test_a_record_with_text_holds_the_group_as_it_was_sent() -> None:
    assert describe(entry(), include_text=True).groups[0].sent == GROUP


def test_the_content_hash_is_the_documented_one() -> None:
    head = b'[[["user","What helps a stuffy nose?"]],"the known answer"]'
    assert content_hash(GROUP, 1) == hashlib.sha256(head + b"\nSteam helps.").hexdigest()


texts = st.text(max_size=8)
groups = st.builds(
    ScoreGroup,
    id=st.just("g"),
    messages=st.lists(
        st.builds(ChatMessage, role=st.sampled_from(["user", "system"]), content=texts),
        min_size=1,
        max_size=3,
    ).map(tuple),
    candidates=texts.map(lambda text: (text,)),
    reference=st.none() | texts,
)


@given(first=groups, second=groups)
def test_two_contents_have_one_hash_only_if_they_are_the_same(
    first: ScoreGroup, second: ScoreGroup
) -> None:
    assert (content_hashes(first) == content_hashes(second)) == (first == second)


def test_the_name_and_the_rivals_of_a_candidate_do_not_count() -> None:
    other = GROUP.model_copy(update={"id": "other", "candidates": ("Steam helps.",)})
    assert content_hash(other, 0) == content_hash(GROUP, 1)


def test_a_group_is_hashed_whatever_made_it() -> None:
    made = ScoreGroup.of("q", Conversation.ask("What helps a stuffy nose?"), ["Rest."])
    sent = ScoreGroup.model_validate_json(made.model_dump_json())
    assert content_hashes(made) == content_hashes(sent)

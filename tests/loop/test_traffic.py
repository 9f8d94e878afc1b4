from __future__ import annotations

import asyncio
from typing import cast

from loop.traffic import STREAMS, Traffic
from policy.client import AsyncPolicyClient, SamplingParameters
from tests.loop.fakes import FakePolicy, questions

PARAMETERS = SamplingParameters(candidates=8, temperature=1.0, top_p=1.0, max_tokens=8, seed=1)


def drive(policy: FakePolicy) -> Traffic:
    async def run() -> Traffic:
        client = cast("AsyncPolicyClient", policy)
        async with Traffic(client, questions(3), PARAMETERS, version="base") as traffic:
            while traffic.requests < 20:  # noqa: ASYNC110 - one turn of the loop, no time
                await asyncio.sleep(0)
            traffic.version = "r1"
            while ("r1", "question 0?") not in policy.seeds:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
        return traffic

    return asyncio.run(asyncio.wait_for(run(), timeout=10))


def test_requests_stay_in_flight_and_go_to_the_new_version() -> None:
    policy = FakePolicy()
    traffic = drive(policy)
    assert traffic.requests >= 20
    assert traffic.failed_requests == 0
    assert policy.most_in_flight == STREAMS
    assert policy.in_flight == 0


def test_a_failure_that_a_user_would_see_is_counted() -> None:
    traffic = drive(FakePolicy(failing=frozenset(["question 1?"])))
    assert 0 < traffic.failed_requests < traffic.requests

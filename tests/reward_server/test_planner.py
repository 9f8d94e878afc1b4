from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.planner import (
    MAX_RETRY_AFTER_SECONDS,
    Item,
    Job,
    Planner,
    Taken,
    seconds_until_room,
)
from reward_server.protocol import Lane

NO_LIMIT = 10**9


def job(*costs: int, lane: Lane = "interactive") -> Job:
    """A job whose inputs share nothing."""
    return Job.of((Item(i, marginal=c, full=c) for i, c in enumerate(costs)), lane=lane)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    items = [
        Item(index, marginal=draw(st.integers(0, full)) if index else full, full=full)
        for index, full in enumerate(lengths)
    ]
    return Job.of(items, lane=draw(st.sampled_from(["interactive", "bulk"])))


def admitted(waiting: Sequence[Job], *, patience: float = 5.0) -> Planner:
    planner = Planner(NO_LIMIT, patience)
    for each in waiting:
        assert planner.admit(each, now=0.0)
    return planner


def emptied(planner: Planner, budget: int, *, step: float = 1.0) -> list[list[Taken]]:
    """All batches until nothing waits, with ``step`` seconds between two."""
    batches, now = [], 0.0
    while batch := planner.take(budget, now=now):
        batches.append(batch)
        now += step
    return batches


@given(st.lists(jobs(), max_size=8), st.integers(1, 80))
def test_a_batch_stays_within_its_budget_unless_one_input_alone_is_larger(
    waiting: list[Job], budget: int
) -> None:
    for batch in emptied(admitted(waiting), budget):
        assert sum(taken.cost for taken in batch) <= budget or len(batch) == 1


@given(st.lists(jobs(), max_size=8), st.integers(1, 80))
def test_every_input_is_taken_once_and_in_the_order_of_its_job(
    waiting: list[Job], budget: int
) -> None:
    wanted = {id(each): [item.index for item in each.items] for each in waiting}
    found: dict[int, list[int]] = {id(each): [] for each in waiting}
    for batch in emptied(admitted(waiting), budget):
        for taken in batch:
            found[id(taken.job)].append(taken.item.index)
    assert found == wanted


@given(st.lists(jobs(), max_size=8), st.integers(1, 80))
def test_an_input_costs_less_only_behind_the_one_before_it(waiting: list[Job], budget: int) -> None:
    for batch in emptied(admitted(waiting), budget):
        before = None
        for taken in batch:
            is_behind = before is not None and before.job is taken.job
            assert taken.cost == (taken.item.marginal if is_behind else taken.item.full)
            before = taken


@given(st.lists(jobs(), max_size=8), st.integers(1, 80))
def test_jobs_of_a_lane_are_served_first_come_first_served(waiting: list[Job], budget: int) -> None:
    turns = [taken.job for batch in emptied(admitted(waiting), budget) for taken in batch]
    for lane in ("interactive", "bulk"):
        of_lane = [each for each in waiting if each.lane == lane]
        served = [of_lane.index(each) for each in turns if each.lane == lane]
        assert served == sorted(served)


@given(st.lists(jobs(), max_size=8), st.integers(1, 80))
def test_bulk_that_is_not_owed_a_turn_goes_behind_interactive(
    waiting: list[Job], budget: int
) -> None:
    for batch in emptied(admitted(waiting, patience=math.inf), budget):
        lanes = [taken.job.lane for taken in batch]
        assert lanes == sorted(lanes, key=["interactive", "bulk"].index)


@given(st.lists(jobs(), min_size=1, max_size=8), st.integers(1, 80), st.data())
def test_a_dropped_job_goes_as_a_whole_and_takes_nothing_with_it(
    waiting: list[Job], budget: int, data: st.DataObject
) -> None:
    planner = admitted(waiting)
    taken = planner.take(budget, now=0.0)
    dropped = data.draw(st.sampled_from(waiting))
    planner.drop(dropped)
    planner.drop(dropped)  # a caller may leave while its request ends
    left = [each for batch in emptied(planner, budget) for each in batch]
    assert all(each.job is not dropped for each in left)
    for each in [*taken, *left]:
        planner.finish(each)
    assert planner.pending_tokens == 0


@given(st.lists(jobs(), max_size=8), st.integers(1, 80))
def test_what_is_admitted_and_not_finished_is_pending(waiting: list[Job], budget: int) -> None:
    planner = admitted(waiting)
    pending = sum(each.waiting_tokens for each in waiting)
    assert planner.pending_tokens == pending
    for batch in emptied(planner, budget):
        assert planner.pending_tokens == pending  # on the device, it is still work
        for taken in batch:
            planner.finish(taken)
        pending -= sum(taken.item.marginal for taken in batch)
        assert planner.pending_tokens == pending
    assert pending == 0


def test_nothing_waits_where_nothing_came() -> None:
    assert Planner(10, 1.0).take(5, now=0.0) == []


def test_a_job_without_inputs_waits_for_nothing() -> None:
    planner = Planner(10, 1.0)
    assert planner.admit(Job.of([]), now=0.0)
    assert planner.take(5, now=0.0) == []
    assert planner.pending_tokens == 0


def test_an_idle_server_takes_a_job_of_any_size() -> None:
    planner = Planner(10, 1.0)
    assert planner.admit(job(100), now=0.0)
    assert not planner.admit(job(1), now=0.0)


def test_a_job_is_admitted_whole_or_not_at_all() -> None:
    planner = Planner(10, 1.0)
    assert planner.admit(job(4), now=0.0)
    refused = job(4, 3)
    assert not planner.admit(refused, now=0.0)
    assert planner.pending_tokens == 4
    assert len(refused.items) == 2
    assert planner.admit(job(4, 2), now=0.0)
    assert planner.pending_tokens == 10


def test_interactive_work_goes_first() -> None:
    planner = admitted([job(5, lane="bulk"), job(5)])
    (first,) = planner.take(5, now=0.0)
    assert first.job.lane == "interactive"


def test_bulk_work_fills_what_interactive_work_leaves_of_a_batch() -> None:
    planner = admitted([job(5, 5, lane="bulk"), job(5)])
    assert [taken.job.lane for taken in planner.take(12, now=0.0)] == ["interactive", "bulk"]


def test_what_waits_of_interactive_work_is_not_delayed_by_filling_up_with_bulk_work() -> None:
    planner = admitted([job(5, 5, lane="bulk"), job(5, 10)])
    assert [taken.job.lane for taken in planner.take(10, now=0.0)] == ["interactive"]


@pytest.mark.parametrize("system", [0, 5])
def test_a_batch_ends_between_groups_where_it_can(system: int) -> None:
    waiting = Job.of(
        Item(index, 10 if index % 4 else 30 + (0 if index else system), 30 + system)
        for index in range(12)
    )
    batches = emptied(admitted([waiting]), 150)
    assert [len(batch) for batch in batches] == [8, 4]


def test_a_batch_does_not_become_small_for_the_sake_of_a_group() -> None:
    waiting = Job.of(Item(index, 10 if index % 4 else 30, 30) for index in range(8))
    assert [len(batch) for batch in emptied(admitted([waiting]), 110)] == [7, 1]


def test_bulk_work_that_has_waited_long_enough_gets_the_next_batch() -> None:
    planner = admitted([job(5, 5, 5, lane="bulk"), job(*[5] * 20)], patience=2.0)
    lanes = [batch[0].job.lane for batch in emptied(planner, 5, step=1.0)]
    assert lanes[:7] == ["interactive", *["interactive", "bulk"] * 3]


def test_bulk_that_rode_along_has_been_served() -> None:
    planner = admitted([job(5, 5, lane="bulk"), job(5)], patience=2.0)
    assert len(planner.take(10, now=1.0)) == 2
    assert planner.admit(job(10), now=1.0)
    assert [taken.job.lane for taken in planner.take(10, now=2.0)] == ["interactive"]


@given(jobs(), st.lists(st.integers(1, 30), min_size=30, max_size=30))
def test_bulk_never_starves(bulk: Job, rivals: list[int]) -> None:
    bulk.lane = "bulk"
    planner = admitted([bulk], patience=2.0)
    now, batches = 0.0, 0
    while bulk.items:
        planner.admit(job(*rivals), now=now)
        planner.take(30, now=now)
        now += 1.0
        batches += 1
        assert batches <= 3 * 6 + 3


def test_clearing_forgets_all_that_waits() -> None:
    planner = admitted([job(5), job(5, lane="bulk")])
    (taken,) = planner.take(5, now=0.0)
    planner.clear()
    assert planner.take(5, now=0.0) == []
    planner.finish(taken)
    assert planner.pending_tokens == 0


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.floats(0, 1e6),
)
def test_a_refused_caller_is_told_a_bounded_number_of_whole_seconds(
    pending: int, wanted: int, limit: int, speed: float
) -> None:
    seconds = seconds_until_room(pending, wanted, limit, tokens_per_second=speed)
    assert 1 <= seconds <= MAX_RETRY_AFTER_SECONDS


@pytest.mark.parametrize(
    ("pending", "wanted", "seconds"),
    [
        pytest.param(100, 10, 1, id="a little has to go"),
        pytest.param(100, 100, 10, id="all has to go"),
        pytest.param(100, 1_000, 10, id="waits for the idle server"),
        pytest.param(100, 45, 5, id="rounded up"),
    ],
)
def test_the_wait_is_what_the_measured_speed_says(pending: int, wanted: int, seconds: int) -> None:
    assert seconds_until_room(pending, wanted, 100, tokens_per_second=10.0) == seconds


def test_without_a_measured_speed_the_wait_is_short() -> None:
    assert seconds_until_room(10**6, 10, 100, tokens_per_second=0.0) == 1

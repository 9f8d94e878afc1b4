from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from reward_server.engine.packing import MIN_SHARED_TOKENS, Packed, Segment, pack, sharing_order
from reward_server.prefixes import common_prefix_length
from tests.reward_server.engine.small import Ids, prefix_trees

# Few different tokens, so that inputs also share what nobody planned.
TREES = st.one_of(prefix_trees(vocabulary=3, most=12), prefix_trees(longest=60, most=12))


def places_of(packed: Packed, index: int) -> list[int]:
    """Where the tokens of an input are, in order."""
    return [place for number in packed.paths[index] for place in own_places(packed, number)]


def own_places(packed: Packed, number: int) -> range:
    segment = packed.segments[number]
    return range(segment.start, segment.start + segment.length)


def context_places(segment: Segment) -> list[int]:
    return [p for start, length in segment.context for p in range(start, start + length)]


def distinct_prefixes(inputs: list[Ids]) -> int:
    """The fewest tokens that any sharing could do with."""
    ordered = sorted(inputs)
    shared = sum(common_prefix_length(a, b) for a, b in pairwise(ordered))
    return sum(map(len, inputs)) - shared


@given(TREES)
def test_the_path_of_an_input_spells_it(inputs: list[Ids]) -> None:
    packed = pack(inputs)
    for index, ids in enumerate(inputs):
        assert tuple(packed.ids[place] for place in places_of(packed, index)) == ids


@given(TREES)
def test_a_position_is_the_place_in_the_input_itself(inputs: list[Ids]) -> None:
    packed = pack(inputs)
    for index, ids in enumerate(inputs):
        found = [packed.positions[place] for place in places_of(packed, index)]
        assert found == list(range(len(ids)))


@given(TREES)
def test_the_last_token_of_an_input_is_the_end_of_its_path(inputs: list[Ids]) -> None:
    packed = pack(inputs)
    assert list(packed.last) == [places_of(packed, index)[-1] for index in range(len(inputs))]


@given(TREES)
def test_segments_cover_the_sequence_without_a_gap(inputs: list[Ids]) -> None:
    packed = pack(inputs)
    assert len(packed.ids) == len(packed.positions)
    covered = [
        place for number in range(len(packed.segments)) for place in own_places(packed, number)
    ]
    assert covered == list(range(len(packed.ids)))


@given(TREES)
def test_a_segment_sees_what_stands_before_it_in_its_inputs_and_nothing_else(
    inputs: list[Ids],
) -> None:
    packed = pack(inputs)
    for index in range(len(inputs)):
        before: list[int] = []
        for number in packed.paths[index]:
            segment = packed.segments[number]
            assert context_places(segment) == before
            assert segment.position == len(before)
            before += own_places(packed, number)


@given(TREES)
def test_packing_never_adds_tokens_and_wastes_few(inputs: list[Ids]) -> None:
    tokens = len(pack(inputs).ids)
    assert tokens <= sum(map(len, inputs))
    # Each parting of ways may leave a run that is too short to share.
    assert tokens <= distinct_prefixes(inputs) + (MIN_SHARED_TOKENS - 1) * (len(inputs) - 1)


@given(TREES)
def test_equal_inputs_are_there_once(inputs: list[Ids]) -> None:
    packed = pack([*inputs, *inputs])
    assert packed.last[: len(inputs)] == packed.last[len(inputs) :]
    assert packed.paths[: len(inputs)] == packed.paths[len(inputs) :]


@given(TREES)
def test_a_shared_segment_is_worth_its_while(inputs: list[Ids]) -> None:
    packed = pack(inputs)
    for number, segment in enumerate(packed.segments):
        users = [ids for ids, path in zip(inputs, packed.paths, strict=True) if number in path]
        saved = segment.length * (len(users) - 1)
        assert len(set(users)) == 1 or saved >= MIN_SHARED_TOKENS


def test_candidates_of_one_conversation_share_it() -> None:
    conversation = tuple(range(100))
    inputs = [(*conversation, 200 + number, 7, 7) for number in range(16)]
    assert len(pack(inputs).ids) == 100 + 16 * 3


def test_conversations_with_one_system_prompt_share_both() -> None:
    system = tuple(range(100))
    questions = [(*system, 200 + number, *range(300, 340)) for number in range(4)]
    inputs = [(*question, 400 + number) for question in questions for number in range(8)]
    assert len(pack(inputs).ids) == 100 + 4 * 41 + 32


def test_a_bos_token_alone_is_not_shared() -> None:
    packed = pack([(1, 5, 6), (1, 7, 8)])
    assert len(packed.ids) == 6
    assert len(packed.segments) == 2


def test_a_prefix_of_another_input_ends_inside_it() -> None:
    long = tuple(range(60))
    packed = pack([long, long[:40]])
    assert len(packed.ids) == 60
    assert packed.positions[packed.last[1]] == 39


def test_three_thousand_nested_prefixes_are_no_burden() -> None:
    whole = tuple(range(3_000))
    packed = pack([whole[:length] for length in range(1, 3_001)])
    assert len(packed.ids) < 3_000 + MIN_SHARED_TOKENS * 2
    assert [packed.ids[place] for place in packed.last] == list(range(3_000))
    # A chain is one run, or attention would gather thousands of pieces for every segment.
    assert max(len(segment.context) for segment in packed.segments) <= 2


def test_nothing_packs_to_nothing() -> None:
    assert pack([]).ids == ()
    assert sharing_order([]) == ([], [])


@given(TREES)
def test_the_sharing_order_takes_every_input_once(inputs: list[Ids]) -> None:
    order, costs = sharing_order(inputs)
    assert sorted(order) == list(range(len(inputs)))
    assert len(costs) == len(inputs)


@given(TREES)
def test_inputs_that_share_most_stand_together(inputs: list[Ids]) -> None:
    order, _ = sharing_order(inputs)
    ordered = [inputs[index] for index in order]
    for left, middle, right in zip(ordered, ordered[1:], ordered[2:], strict=False):
        apart = common_prefix_length(left, right)
        assert min(common_prefix_length(left, middle), common_prefix_length(middle, right)) >= apart


@given(TREES)
def test_what_an_input_adds_is_no_more_than_itself(inputs: list[Ids]) -> None:
    order, costs = sharing_order(inputs)
    assert all(0 <= cost <= len(inputs[index]) for index, cost in zip(order, costs, strict=True))
    assert not costs or costs[0] == len(inputs[order[0]])


@given(TREES)
def test_the_costs_are_what_a_batch_costs_but_for_short_runs(inputs: list[Ids]) -> None:
    order, costs = sharing_order(inputs)
    for count in range(1, len(inputs) + 1):
        tokens = len(pack([inputs[index] for index in order[:count]]).ids)
        slack = (MIN_SHARED_TOKENS - 1) * (count - 1)
        assert abs(tokens - sum(costs[:count])) <= slack


def test_the_costs_of_one_conversation_are_exact() -> None:
    conversation = tuple(range(100))
    inputs = [(*conversation, 200 + number, *range(number)) for number in range(16)]
    order, costs = sharing_order(inputs)
    assert sum(costs) == len(pack(inputs).ids)
    assert costs == [101, *range(2, 17)]
    assert order == list(range(16))

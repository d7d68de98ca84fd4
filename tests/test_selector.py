"""Who is asked first, and who next."""

from __future__ import annotations

from collections import Counter
from random import Random
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateways.selector import MAX_WEIGHT, Candidate, first_tier, order, patience, turns

many = settings(max_examples=150, deadline=None, database=None)


@st.composite
def shops(draw, least=0):
    weights = st.integers(least, 12)
    ids = draw(st.lists(st.integers(1, 1000), unique=True, max_size=7))
    return [Candidate(i, draw(st.integers(0, 3)), draw(weights), draw(st.booleans())) for i in ids]


turns_taken = st.integers(0, 10**9)


def firsts(candidates, turn_numbers):
    return [order(candidates, turn)[0].id for turn in turn_numbers]


def test_equal_weights_take_turns():
    three = [Candidate(3, 1, 5), Candidate(1, 1, 5), Candidate(2, 1, 5)]
    assert firsts(three, range(7)) == [1, 2, 3, 1, 2, 3, 1]


def test_shares_are_mixed_and_not_lumped():
    assert firsts([Candidate(1, 1, 3), Candidate(2, 1, 1)], range(8)) == [1, 1, 2, 1, 1, 1, 2, 1]


def test_the_next_to_be_tried_is_the_next_in_turn():
    three = [Candidate(1, 1, 1), Candidate(2, 1, 1), Candidate(3, 1, 1)]
    assert [c.id for c in order(three, 1)] == [2, 3, 1]


def test_the_lowest_priority_number_comes_first_whatever_the_weights():
    two = [Candidate(1, 2, 1000), Candidate(2, 1, 1)]
    assert [c.id for c in order(two, 0)] == [2, 1]


def test_without_a_share_one_is_a_spare():
    two = [Candidate(1, 1, 0), Candidate(2, 1, 1)]
    assert {tuple(c.id for c in order(two, turn)) for turn in range(5)} == {(2, 1)}


def test_spares_alone_take_turns():
    assert firsts([Candidate(1, 1, 0), Candidate(2, 1, 0)], range(4)) == [1, 2, 1, 2]


def test_nobody_is_an_empty_list():
    assert order([], 5) == []
    assert order([Candidate(1, 1, 1, active=False)], 5) == []


@pytest.mark.parametrize("weight", [-1, MAX_WEIGHT + 1])
def test_a_weight_has_limits(weight):
    with pytest.raises(ValueError, match="weight"):
        Candidate(1, 1, weight)


@many
@given(shops(), turns_taken)
def test_every_active_candidate_is_there_once_and_no_other(candidates, turn):
    found = order(candidates, turn)
    assert sorted(c.id for c in found) == sorted(c.id for c in candidates if c.active)


@many
@given(shops(), turns_taken)
def test_priorities_are_never_mixed(candidates, turn):
    found = [c.priority for c in order(candidates, turn)]
    assert found == sorted(found)


@many
@given(shops(), turns_taken, st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(candidates, turn, random):
    shuffled = random.sample(candidates, len(candidates))
    assert order(shuffled, turn) == order(candidates, turn)


@many
@given(shops(least=1), turns_taken)
def test_any_round_gives_each_its_exact_share(candidates, start):
    active = [c for c in candidates if c.active]
    for priority in {c.priority for c in active}:
        tier = [c for c in active if c.priority == priority]
        total = sum(c.weight for c in tier)
        led = Counter(firsts(tier, range(start, start + total)))
        assert led == {c.id: c.weight for c in tier}


@many
@given(shops(least=1), turns_taken, st.integers(1, 50))
def test_at_no_time_is_anyone_far_from_its_share(candidates, start, length):
    tier = [Candidate(c.id, 1, c.weight) for c in candidates]
    if not tier:
        return
    led = Counter(firsts(tier, range(start, start + length)))
    total = sum(c.weight for c in tier)
    for c in tier:
        assert abs(led[c.id] - length * c.weight / total) < len(tier)


def test_fifty_gateways_of_any_weight_get_their_exact_shares():
    random = Random(50)
    fifty = [Candidate(i, 1, random.randint(1, 40)) for i in range(50)]
    start = random.randint(0, 10**9)

    led = Counter(firsts(fifty, range(start, start + turns(fifty))))

    assert turns(fifty) == sum(c.weight for c in fifty)
    assert led == {c.id: c.weight for c in fifty}


def test_the_longest_round_is_entered_and_not_walked_through():
    heavy = [Candidate(i, 1, MAX_WEIGHT - i) for i in range(50)]
    started = process_time()
    for turn in range(0, 10**9, 10**7):
        order(heavy, turn)
    assert process_time() - started < 2  # walking through one takes a second for each


@many
@given(shops(), turns_taken)
def test_the_first_tier_is_who_may_come_first(candidates, turn):
    found, tier = order(candidates, turn), first_tier(candidates)
    assert {c.id for c in found[: len(tier)]} == {c.id for c in tier}
    assert bool(found) == bool(tier)


@many
@given(shops(least=1), turns_taken)
def test_after_a_whole_round_all_is_as_before(candidates, turn):
    tier = first_tier(candidates)
    assert order(tier, turn) == order(tier, turn + turns(tier))


@given(st.floats(0.1, 10), st.integers(0, 50))
def test_a_try_leaves_the_next_two_as_much_as_it_takes(left, others):
    mine = patience(left, others)
    assert mine * min(3, 1 + others) <= left + 1e-9
    assert mine >= left / 3

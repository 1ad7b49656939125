"""Short rows first, none passed over for long, batches where they pay: by hand, as properties, in simulations."""

from __future__ import annotations

from functools import cache
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.cost import CostModel
from serving.scheduler.limits import Limits
from serving.settings import Settings
from tests.serving.simulation import ENCODER, Answered, Simulation, closed_loop, open_loop, quantile
from tests.serving.test_scheduler import Bench, per_run, per_token

STRETCH = Settings().stretch
FIRST_COME = inf


def test_short_row_passes_a_long_one_that_came_just_before() -> None:
    bench = Bench(cost=per_token, max_rows=1, stretch=2.0)
    bench.submit("long", 100)
    bench.submit("short", 10)
    bench.drain()
    assert bench.ran == [("short",), ("long",)]


def test_long_row_is_passed_by_none_that_comes_later_than_its_stretch_allows() -> None:
    bench = Bench(cost=per_token, max_rows=1, stretch=2.0)
    bench.submit("long", 100)  # predicted to take a second
    bench.clock.advance(1.75)
    bench.submit("in time", 10)
    bench.clock.advance(0.1)
    bench.submit("too late", 10)
    bench.drain()
    assert bench.ran == [("in time",), ("long",), ("too late",)]


def test_patience_bounds_what_the_stretch_allows() -> None:
    bench = Bench(cost=per_token, max_rows=1, stretch=1000.0, patience=1.0)
    bench.submit("long", 100)
    bench.clock.advance(1.5)
    bench.submit("short", 10)
    bench.drain()
    assert bench.ran == [("long",), ("short",)]


def test_deadline_makes_a_long_row_more_urgent_than_its_length() -> None:
    bench = Bench(cost=per_token, max_rows=1, stretch=10.0)
    bench.submit("short", 20)
    bench.submit("long", 100, deadline=1.5)
    bench.drain()
    assert bench.ran == [("long",), ("short",)]


def test_rows_join_on_both_sides_in_length_nearest_first() -> None:
    bench = Bench(max_rows=3, max_waste=100)
    for name, length in (("head", 50), ("far below", 20), ("below", 48), ("above", 51), ("far above", 90)):
        bench.submit(name, length)
    bench.step()
    assert sorted(bench.ran[0]) == ["above", "below", "head"]


def test_row_that_saves_less_than_the_gain_asked_for_runs_by_itself() -> None:
    saves_little = CostModel(base=0.04, token=0.1, square=0.0)
    for gain, batches in ((0.05, [1, 1]), (0.03, [2])):
        bench = Bench(cost=saves_little, gain=gain)
        bench.submit("a", 10)
        bench.submit("b", 10)
        bench.drain()
        assert [len(batch) for batch in bench.ran] == batches


def test_batch_does_not_make_its_head_late() -> None:
    bench = Bench(cost=lambda rows, length: 1.0 + 0.5 * rows, patience=1000)
    for name in "abcdef":
        bench.submit(name, 10, deadline=100)
    hurried = bench.submit("hurried", 10, deadline=13.0)
    bench.clock.advance(10.5)
    bench.step()
    assert hurried.done()
    assert len(bench.ran[0]) == 3, "2.5 s are left, in which three rows run together"


def test_batching_that_gains_nothing_is_not_done() -> None:
    bench = Bench(cost=per_token)
    for name in "abc":
        bench.submit(name, 10)
    bench.drain()
    assert [len(batch) for batch in bench.ran] == [1, 1, 1]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 4))
def test_grouping_never_takes_longer_than_running_rows_alone(lengths: list[int], runners: int) -> None:
    bench = Bench(cost=ENCODER, runners=runners)
    for length in lengths:
        bench.submit(str(length), length)
    bench.drain()
    together = sum(ENCODER(len(batch.lengths), max(batch.lengths)) for batch in bench.seen)
    assert together <= sum(ENCODER(1, length) for length in lengths) * (1 + 1e-9)


rows = st.lists(st.tuples(st.integers(1, 300), st.floats(0, 1)), min_size=1, max_size=80)


def excess(offered: list[tuple[int, float]], runners: int, load: float, stretch: float, bound: float) -> float:
    """By how much the wait of some row is more than ``bound`` times its own predicted run and the longest run twice.

    Once for a run that had begun, once for a burst: work comes at a rate below capacity, and at most one longest run
    per runner before its time. Each row comes a share of the longest run after the work before it is paid for.
    """
    longest = max(ENCODER(1, length) for length, _ in offered)
    simulation = Simulation(Limits(max_rows=1, stretch=stretch, patience=inf, capacity=10_000), runners)
    paid_for = 0.0
    for length, later in offered:
        # A leaky bucket: what came until now, less what capacity allows until then, is at most ``runners`` runs.
        at = max(0.0, paid_for - longest) + later * longest
        paid_for = max(paid_for, at) + ENCODER(1, length) / (load * runners)
        simulation.at(at, lambda length=length: simulation.submit(length))  # type: ignore[misc]
    answered = simulation.run(len(offered))
    assert len(answered) == len(offered)
    return max(row.wait - bound * row.cost for row in answered) - 2 * longest


@settings(deadline=None, max_examples=200)
@given(rows, st.integers(1, 3), st.floats(0.5, 1), st.sampled_from([1.0, STRETCH, 10.0]))
def test_at_steady_load_below_capacity_no_row_waits_longer_than_its_stretch_and_the_longest_runs(
    offered: list[tuple[int, float]], runners: int, load: float, stretch: float
) -> None:
    assert excess(offered, runners, load, stretch, bound=stretch) <= 1e-9


@pytest.mark.parametrize("runners", [1, 2, 3])
def test_long_row_is_not_starved_by_a_stream_of_short_ones(runners: int) -> None:
    """As it would be where the shortest row always goes first."""
    stream = [*[(5, 0.0)] * 50, (300, 0.0), *[(5, 0.0)] * 1000]
    assert excess(stream, runners, load=1.0, stretch=STRETCH, bound=STRETCH) <= 1e-9
    assert excess(stream, runners, load=1.0, stretch=1e6, bound=STRETCH) > 0


@cache
def closed(stretch: float, max_rows: int = 1) -> list[Answered]:
    return closed_loop(Limits(max_rows=max_rows, stretch=stretch), callers=64, rows=4000)


@cache
def opened(stretch: float) -> list[Answered]:
    return open_loop(Limits(max_rows=1, stretch=stretch), load=0.8, rows=4000)


def latency(answered: list[Answered], share: float) -> float:
    return quantile([row.latency for row in answered], share)


def test_order_costs_no_throughput() -> None:
    ours, theirs = closed(STRETCH), closed(FIRST_COME)
    seconds = [answered[-1].answered - answered[0].answered for answered in (ours, theirs)]
    assert seconds[0] == pytest.approx(seconds[1], rel=0.02)


def test_in_a_closed_loop_of_64_callers_the_median_is_no_longer_and_the_tail_hardly() -> None:
    """The mean latency is callers over throughput whatever the order, so what one row gains another one loses."""
    ours, theirs = closed(STRETCH), closed(FIRST_COME)
    assert latency(ours, 0.5) <= 1.0 * latency(theirs, 0.5)
    assert latency(ours, 0.99) <= 1.2 * latency(theirs, 0.99)


def test_in_an_open_loop_at_four_fifths_of_capacity_most_rows_are_answered_sooner() -> None:
    ours, theirs = opened(STRETCH), opened(FIRST_COME)
    assert latency(ours, 0.5) <= 0.8 * latency(theirs, 0.5)
    assert latency(ours, 0.9) <= 0.9 * latency(theirs, 0.9)
    assert latency(ours, 0.99) <= 1.1 * latency(theirs, 0.99)


def test_rows_that_can_be_grouped_are_answered_at_a_higher_rate() -> None:
    grouped = closed(STRETCH, max_rows=32)
    seconds = [answered[-1].answered - answered[0].answered for answered in (grouped, closed(STRETCH))]
    assert seconds[0] < 0.98 * seconds[1]


def test_device_on_which_a_batch_costs_what_a_row_costs_batches_as_much_as_it_may() -> None:
    bench = Bench(cost=per_run, max_rows=4, stretch=STRETCH)
    for name in "abcdefgh":
        bench.submit(name, 10)
    bench.drain()
    assert [len(batch) for batch in bench.ran] == [4, 4]

"""The figures of a report follow from its records."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.run import SATURATED, Record, Run
from loadtest.settings import Settings
from loadtest.summary import Summary, latencies, spread, summarise
from loadtest.target import Failure
from tests.loadtest import virtual_time

BUSY = Failure("HTTP 503", "queue is full")
TIMES = st.floats(0, 100, allow_subnormal=False)
RECORDS = st.lists(
    st.builds(
        lambda intended, late, taken, failure: Record(intended, intended + late, intended + late + taken, failure),
        st.floats(-5, 15, allow_subnormal=False),
        TIMES,
        TIMES,
        st.sampled_from([None, None, BUSY, Failure("timeout", "none within 1 s")]),
    )
)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1), st.randoms())
def test_percentiles_are_those_of_the_sorted_values(values: list[float], shuffle: object) -> None:
    found = spread(np.array(values))
    assert found is not None
    ranked = sorted(values)
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)):
        rank = share * (len(ranked) - 1)
        below, above = ranked[math.floor(rank)], ranked[math.ceil(rank)]
        assert found[name] == pytest.approx(below + (above - below) * (rank - math.floor(rank)))
    assert found["max"] == ranked[-1]
    assert ranked[0] <= found["p50"] <= found["p90"] <= found["p95"] <= found["p99"] <= found["p99.9"] <= found["max"]


@settings(deadline=None)
@given(RECORDS, st.booleans())
def test_every_measured_request_is_counted_once_and_only_good_ones_have_a_latency(
    records: list[Record], open_loop: bool
) -> None:
    summary = summarise(records, 10.0, rows=3, open_loop=open_loop)
    measured = [record for record in records if record.intended >= 0]
    assert summary.requests == len(measured) == summary.succeeded + summary.failed
    assert summary.failed == sum(one.count for one in summary.errors)
    assert len(latencies(records)) == summary.succeeded
    assert (summary.latency is None) == (summary.succeeded == 0)
    assert summary.rows_per_second == 3 * summary.throughput
    assert summary.throughput * 10 == pytest.approx(sum(one.answered for one in summary.over_time))
    json.dumps(asdict(summary), allow_nan=False)


@settings(deadline=None)
@given(RECORDS)
def test_latency_is_at_least_the_service_time(records: list[Record]) -> None:
    summary = summarise(records, 10.0, rows=1, open_loop=True)
    if summary.latency and summary.service:
        assert all(summary.latency[name] >= summary.service[name] - 1e-6 for name in summary.latency)


def stalled(**load: float | None) -> Summary:
    """A server that answers one request at a time in 10 ms, and stands still once for 2 of 20 seconds."""
    turn = asyncio.Lock()

    async def send(_number: int) -> Failure | None:
        async with turn:
            await asyncio.sleep(2.0 if 9 <= asyncio.get_running_loop().time() <= 9.1 else 0.01)
        return None

    asked = Settings("http://x", **load, duration=20, warmup=0)  # type: ignore[arg-type]
    run = Run(asked, send)
    virtual_time.run(run.measure())
    return summarise(run.records, run.span, 1, asked.rate is not None)


def test_a_stall_is_felt_by_all_that_were_due_in_it_in_an_open_loop_and_by_one_in_a_closed_loop() -> None:
    opened, closed = stalled(rate=50, concurrency=None).latency, stalled(concurrency=1).latency
    assert opened
    assert closed
    # Due in the 2 seconds of the stall, and in the time to catch up: more than one in ten.
    assert opened["p90"] > 500
    assert closed["p99"] < 11
    assert opened["max"] == pytest.approx(2000, rel=0.1)


def test_latency_counts_from_the_intended_time_when_the_generator_was_late() -> None:
    records = [Record(second, second + 0.5, second + 0.6, None) for second in range(10)]
    summary = summarise(records, 10.0, rows=1, open_loop=True)
    assert summary.latency
    assert summary.service
    assert summary.lateness
    assert summary.latency["p50"] == pytest.approx(600)
    assert summary.service["p50"] == pytest.approx(100)
    assert summary.lateness["p50"] == pytest.approx(500)
    assert any("load generator itself was late" in warning for warning in summary.warnings)


def test_throughput_is_of_the_answers_that_came_in_time() -> None:
    records = [Record(at / 10, at / 10, at / 10 + 4.95, None) for at in range(-50, 100)]
    summary = summarise(records, 10.0, rows=2, open_loop=True)
    assert summary.throughput == pytest.approx(10)
    assert summary.rows_per_second == pytest.approx(20)
    assert [one.answered for one in summary.over_time] == [pytest.approx(10)] * 10
    assert not any("did not keep up" in warning for warning in summary.warnings)


def test_a_server_that_falls_behind_is_told_from_a_slow_one() -> None:
    records = [Record(at / 100, at / 100, at / 50, None) for at in range(1000)]
    summary = summarise(records, 10.0, rows=1, open_loop=True)
    assert summary.throughput == pytest.approx(50, rel=0.01)
    assert any("did not keep up: 1,000 requests were sent and 501 done" in warning for warning in summary.warnings)


def test_a_busy_generator_and_few_answers_are_told() -> None:
    summary = summarise([Record(0, 0, 1, None)], 1.0, rows=1, open_loop=False, processor=0.97)
    assert any("97% of a core" in warning for warning in summary.warnings)
    assert any("p99.9 rests on 1 answers" in warning for warning in summary.warnings)


def test_requests_never_sent_count_as_errors_and_have_no_lateness() -> None:
    records = [Record(1, math.nan, 1, SATURATED), Record(2, 2.001, 3, None)]
    summary = summarise(records, 10.0, rows=1, open_loop=True)
    assert summary.error_rate == 0.5
    assert summary.errors[0].kind == "generator saturated"
    assert summary.lateness
    assert summary.lateness["max"] == pytest.approx(1)


def test_each_kind_of_error_has_its_count_and_first_message() -> None:
    failures = [BUSY, Failure("timeout", "first"), BUSY, Failure("timeout", "second"), BUSY, None]
    records = [Record(at, at, at + 0.5, failure) for at, failure in enumerate(failures)]
    errors = summarise(records, 6.0, rows=1, open_loop=False).errors
    assert [(one.kind, one.count, one.message) for one in errors] == [
        ("HTTP 503", 3, "queue is full"),
        ("timeout", 2, "first"),
    ]


def test_nothing_measured_is_told_as_nothing() -> None:
    summary = summarise([Record(-1, -1, -0.5, None)], 0.0, rows=1, open_loop=True)
    assert (summary.requests, summary.error_rate, summary.latency, summary.throughput) == (0, None, None, 0.0)

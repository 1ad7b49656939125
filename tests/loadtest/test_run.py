"""Requests are sent when the load says, whatever the server does, and each is recorded once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from itertools import islice

import pytest

from loadtest.arrivals import poisson
from loadtest.run import Run
from loadtest.settings import Settings
from loadtest.target import Failure
from tests.loadtest import virtual_time


class Server:
    """One that takes ``service(number)`` seconds for a request, one request after the other if ``single``."""

    def __init__(self, service: Callable[[int], float], single: bool = False) -> None:
        self._service = service
        self._turn = asyncio.Lock() if single else asyncio.Semaphore(10**9)
        self.most = 0
        self._busy = 0

    async def __call__(self, number: int) -> Failure | None:
        """Answer request ``number``; those that end in 7 fail."""
        self._busy += 1
        self.most = max(self.most, self._busy)
        async with self._turn:
            await asyncio.sleep(self._service(number))
        self._busy -= 1
        return Failure("HTTP 503", "busy") if number % 10 == 7 else None


def measured(settings: Settings, server: Server, **options: int) -> Run:
    run = Run(settings, server, **options)
    virtual_time.run(run.measure())
    return run


def test_open_loop_sends_on_time_although_the_server_stalls() -> None:
    settings = Settings("http://x", rate=20, concurrency=None, duration=10, warmup=2, seed=5)
    run = measured(settings, Server(lambda number: 60.0 if number == 3 else 0.01, single=True))
    expected = [at - 2 for at in islice(poisson(20, 5), 1000) if at < 12]
    assert sorted(record.intended for record in run.records) == pytest.approx(expected)
    assert max(record.sent - record.intended for record in run.records) < 1e-6
    assert max(record.ended - record.intended for record in run.records) > 59
    assert run.span == 10


def test_open_loop_sends_at_the_arrivals_it_is_given() -> None:
    run = Run(Settings("http://x", rate=1, concurrency=None, duration=5, warmup=0), Server(lambda _number: 0.1),
              arrivals=iter([0.5, 0.5, 3.0, 7.0]))  # fmt: skip
    virtual_time.run(run.measure())
    assert sorted(record.intended for record in run.records) == [0.5, 0.5, 3.0]


def test_closed_loop_never_has_more_callers_than_asked_for_and_keeps_them_busy() -> None:
    server = Server(lambda _number: 0.5)
    run = measured(Settings("http://x", concurrency=4, duration=10, warmup=1), server)
    assert server.most == 4
    assert len(run.records) == 4 * 11 / 0.5
    assert all(record.intended == record.sent for record in run.records)


@pytest.mark.parametrize("load", [{"rate": 7.0, "concurrency": None}, {"concurrency": 3}])
def test_number_of_requests_is_exact_and_does_not_count_the_warmup(load: dict[str, float | None]) -> None:
    settings = Settings("http://x", **load, duration=None, requests=50, warmup=3)  # type: ignore[arg-type]
    run = measured(settings, Server(lambda number: 0.1 + number % 3))
    assert sum(record.intended >= 0 for record in run.records) == 50
    assert any(record.intended < 0 for record in run.records)
    assert run.span == max(record.ended for record in run.records)


def test_failures_are_recorded_as_the_server_told_them() -> None:
    run = measured(Settings("http://x", concurrency=1, duration=None, requests=20, warmup=0), Server(lambda _n: 0.1))
    assert [record.failure for record in run.records if record.failure] == [Failure("HTTP 503", "busy")] * 2
    assert run.failed == 2


def test_requests_beyond_what_the_generator_holds_open_are_recorded_and_not_sent() -> None:
    settings = Settings("http://x", rate=100, concurrency=None, duration=5, warmup=0)
    server = Server(lambda _number: 1000.0)
    run = measured(settings, server, outstanding_limit=30)
    refused = [record for record in run.records if record.failure and record.failure.kind == "generator saturated"]
    assert server.most == 30
    assert len(run.records) == sum(1 for at in islice(poisson(100, 0), 1000) if at < 5)
    assert len(refused) == len(run.records) - 30
    assert all(math.isnan(record.sent) for record in refused)


@pytest.mark.parametrize("load", [{"rate": 10.0, "concurrency": None}, {"concurrency": 2}])
def test_stop_ends_at_once_and_keeps_what_was_measured(load: dict[str, float | None]) -> None:
    async def stopped() -> None:
        run = Run(Settings("http://x", **load, duration=100, warmup=0), Server(lambda n: 0.1 if n < 20 else 500.0))  # type: ignore[arg-type]
        asyncio.get_running_loop().call_later(30, run.stop)
        await run.measure()
        assert run.interrupted
        assert run.span == pytest.approx(30)
        assert len(run.records) == 20
        assert run.dropped > 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_time.run(stopped())


def test_stop_after_the_end_changes_nothing() -> None:
    run = measured(Settings("http://x", concurrency=1, duration=5, warmup=0), Server(lambda _number: 0.1))
    run.stop()
    assert not run.interrupted
    assert run.dropped == 0


def test_a_fault_of_ours_is_not_taken_for_one_of_the_server() -> None:
    async def broken(_number: int) -> Failure | None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        virtual_time.run(Run(Settings("http://x", concurrency=1), broken).measure())

"""One load test while it runs: it sends at the times that the load says and records what came back."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from loadtest.arrivals import poisson
from loadtest.settings import Settings
from loadtest.target import Failure

OUTSTANDING = 10_000
SATURATED = Failure(
    "generator saturated", "more requests were unanswered than this load generator holds open, so this one was not sent"
)


@dataclass(frozen=True, slots=True)
class Record:
    """One request; times are in seconds from the end of the warm-up, so those of the warm-up are negative.

    ``intended`` is when the load wanted it sent; ``sent`` is NaN where it never was; ``failure`` is None for
    a good answer.
    """

    intended: float
    sent: float
    ended: float
    failure: Failure | None


class Run:
    """Sends request after request with ``send``, which gets the number of the request.

    An open loop sends at ``arrivals``, seconds from the start without end; by default at random (Poisson).
    It keeps time by the clock of the event loop. No more than ``outstanding_limit`` requests are held open in an open
    loop; further arrivals are recorded as failures of the kind ``generator saturated``.
    """

    def __init__(
        self,
        settings: Settings,
        send: Callable[[int], Awaitable[Failure | None]],
        outstanding_limit: int = OUTSTANDING,
        arrivals: Iterator[float] | None = None,
    ) -> None:
        self.records: list[Record] = []
        self.outstanding = 0
        self.failed = 0
        self.interrupted = False
        self.dropped = 0
        """Requests that ``stop`` left without an answer; they are not among the records."""
        self.span = math.nan
        """Seconds that were measured, known at the end."""
        self.processor = math.nan
        """Share of one core that this process used from the start to the end."""
        self._settings = settings
        self._send = send
        self._limit = outstanding_limit
        self._arrivals = arrivals
        self._begin = 0.0
        self._driver: asyncio.Task[None] | None = None

    def now(self) -> float:
        """Seconds since the end of the warm-up, negative before it."""
        return asyncio.get_running_loop().time() - self._begin

    def stop(self) -> None:
        """End the run now: requests without an answer yet are dropped and not recorded."""
        if self._driver is not None and self._driver.cancel():
            self.dropped = self.outstanding

    async def measure(self) -> None:
        """Run to the end or to ``stop``; then ``records``, ``span`` and ``interrupted`` are complete."""
        start, used = asyncio.get_running_loop().time(), time.process_time()
        self._begin, rate = start + self._settings.warmup, self._settings.rate
        self._driver = asyncio.create_task(self._closed() if rate is None else self._open(rate))
        await asyncio.wait([self._driver])
        self.interrupted = self._driver.cancelled()
        if not self.interrupted:
            self._driver.result()
        self.processor = (time.process_time() - used) / max(self.now() + self._begin - start, 1e-9)
        self.span = self._measured()

    def _measured(self) -> float:
        if self._settings.duration is not None:
            return max(0.0, min(self.now(), self._settings.duration))
        return max((record.ended for record in self.records if record.intended >= 0), default=0.0)

    async def _open(self, rate: float) -> None:
        counted = 0
        async with asyncio.TaskGroup() as waiting:
            for number, arrival in enumerate(self._arrivals or poisson(rate, self._settings.seed)):
                intended = arrival - self._settings.warmup
                if self._enough(counted, intended):
                    break
                counted += intended >= 0
                # Also where it is late already: it lets the answers come in.
                await asyncio.sleep(max(0.0, intended - self.now()))
                if self.outstanding >= self._limit:
                    self._record(Record(intended, math.nan, self.now(), SATURATED))
                else:
                    self.outstanding += 1
                    waiting.create_task(self._one(number, intended))

    async def _closed(self) -> None:
        numbers = itertools.count()
        counted = 0

        async def caller() -> None:
            nonlocal counted
            while not self._enough(counted, intended := self.now()):
                counted += intended >= 0
                self.outstanding += 1
                await self._one(next(numbers), intended)

        async with asyncio.TaskGroup() as callers:
            for _ in range(self._settings.concurrency or 1):
                callers.create_task(caller())

    def _enough(self, counted: int, intended: float) -> bool:
        settings = self._settings
        if settings.duration is not None:
            return intended >= settings.duration
        return counted >= (settings.requests or 0)

    async def _one(self, number: int, intended: float) -> None:
        sent = self.now()
        try:
            failure = await self._send(number)
        finally:
            self.outstanding -= 1
        self._record(Record(intended, sent, self.now(), failure))

    def _record(self, record: Record) -> None:
        self.records.append(record)
        self.failed += record.failure is not None

"""Callers, the real scheduler and its runners in virtual time: a discrete-event simulation without threads."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from math import exp, log
from typing import Any

from serving.cost import CostModel
from serving.scheduler.limits import Limits
from serving.scheduler.runners import Scheduler
from tests.serving.clock import Clock

# A 22 M-parameter encoder in INT8 on one core.
ENCODER = CostModel(base=0.5e-3, token=0.12e-3, square=0.05e-6)
ROWS = 20_000


@dataclass(frozen=True)
class Answered:
    """One row: when it came, began to run and was answered, in seconds, and what its run was predicted to take."""

    arrival: float
    begun: float
    answered: float
    cost: float

    @property
    def latency(self) -> float:
        """Seconds from arrival to answer."""
        return self.answered - self.arrival

    @property
    def wait(self) -> float:
        """Seconds from arrival to run."""
        return self.begun - self.arrival


class Simulation:
    """Runs take what ``cost`` predicts; ``answered`` lists the rows in the order of their answers."""

    def __init__(self, limits: Limits, runners: int = 2, cost: CostModel = ENCODER) -> None:
        self.clock, self.cost = Clock(), cost
        self.scheduler = Scheduler(lambda payloads: payloads, cost, self.clock, limits, runners)
        self.answered: list[Answered] = []
        self._idle = runners
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, time: float, event: Callable[[], None]) -> None:
        """Have something happen at a time of the clock."""
        heappush(self._events, (time, next(self._numbers), event))

    def submit(self, length: int, then: Callable[[], None] = lambda: None) -> None:
        """A row of so many tokens comes now; ``then`` is called when it is answered."""
        arrival = self.clock.now
        begun: list[float] = []

        def answer(future: Future[Any]) -> None:
            future.result()
            self.answered.append(Answered(arrival, begun[0], self.clock.now, self.cost(1, length)))
            then()

        self.scheduler.submit(begun, length).add_done_callback(answer)

    def run(self, rows: int) -> list[Answered]:
        """Let time pass until so many rows are answered or nothing happens any more; what was answered."""
        while len(self.answered) < rows:
            while self._idle and (entries := self.scheduler.take()):
                self._idle -= 1
                for entry in entries:
                    entry.payload.append(self.clock.now)
                seconds = self.cost(len(entries), max(entry.length for entry in entries))
                self.at(self.clock.now + seconds, lambda entries=entries: self._finish(entries))  # type: ignore[misc]
            if not self._events:
                break
            self.clock.now, _, event = heappop(self._events)
            event()
        return self.answered

    def _finish(self, entries: list[Any]) -> None:
        self._idle += 1
        self.scheduler.execute(entries)


def lengths(seed: int, median: float = 24, sigma: float = 0.9, least: int = 5, most: int = 256) -> Callable[[], int]:
    """Log-normal lengths in tokens, clipped."""
    numbers = random.Random(seed)
    return lambda: round(min(most, max(least, exp(log(median) + sigma * numbers.gauss(0, 1)))))


def closed_loop(limits: Limits, callers: int, rows: int, seed: int = 0, runners: int = 2) -> list[Answered]:
    """Each caller sends its next row when the last one is answered; the rows after a tenth, which warms up."""
    simulation, length = Simulation(limits, runners), lengths(seed)

    def call() -> None:
        simulation.submit(length(), call)

    for _ in range(callers):
        call()
    return simulation.run(rows)[rows // 10 :]


def open_loop(limits: Limits, load: float, rows: int, seed: int = 0, runners: int = 2) -> list[Answered]:
    """Rows come at random (Poisson) at a share ``load`` of what the runners can do one row at a time."""
    simulation, length, numbers = Simulation(limits, runners), lengths(seed), random.Random(seed)
    sample = [ENCODER(1, length()) for _ in range(10_000)]
    rate = load * runners * len(sample) / sum(sample)

    def come() -> None:
        simulation.submit(length())
        simulation.at(simulation.clock.now + numbers.expovariate(rate), come)

    come()
    return simulation.run(rows)[rows // 10 :]


def quantile(values: list[float], share: float) -> float:
    """The value that a share of them is not above."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def main() -> None:
    """Print the table of docs/serving.md: quantiles by stretch, as ratios to the order of arrival."""
    loops = {
        "open loop at 0.8 of capacity": lambda limits: open_loop(limits, 0.8, ROWS),
        "closed loop of 64 callers": lambda limits: closed_loop(limits, 64, ROWS),
    }
    for name, loop in loops.items():
        first = [row.latency for row in loop(Limits(max_rows=1))]
        for stretch in (1, 2, 4, 10, 25):
            found = [row.latency for row in loop(Limits(max_rows=1, stretch=stretch))]
            ratios = [quantile(found, share) / quantile(first, share) for share in (0.5, 0.9, 0.99)]
            print(f"{name}, stretch {stretch}: p50, p90, p99", *(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()

"""The run itself: every system under every load, in interleaved rounds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtest.arrivals import bursts
from loadtest.bench import ceiling, open_loop, perf_analyzer, wrk
from loadtest.bench.figures import Figures, Results
from loadtest.bench.options import Options
from loadtest.bench.processes import CannotRun
from loadtest.bench.runners import Runner
from loadtest.bench.traces import Trace
from loadtest.bench.wires import Wire

SHARES = (0.5, 0.8, 1.2)
BURST = "burst"
BURST_SHARE = 0.5
ENOUGH = 2
LONGER = 3
"""How many times as long a slow system is measured."""
OVERHEAD = 1.2
"""Seconds around each measurement, for the estimate of the time left."""


def callers(concurrency: int) -> str:
    """The name of a closed loop."""
    return f"c = {concurrency}"


def share_of_capacity(share: float) -> str:
    """The name of an open loop."""
    return f"{share:g} of capacity"


@dataclass(frozen=True)
class Step:
    """One measurement to make; ``cost`` is about how many seconds it takes."""

    row: str
    trace: str
    load: str
    round: int
    cost: float
    measure: Callable[[], Figures]


class Plan:
    """All steps in order."""

    def __init__(
        self,
        options: Options,
        traces: Mapping[str, Trace],
        session: ceiling.Session,
        runners: Sequence[Runner],
        results: Results,
    ) -> None:
        self._options = options
        self._traces = traces
        self._session = session
        self._runners = runners
        self._results = results

    def steps(self) -> Iterator[Step]:
        """The closed loops round by round, then the open loops, which need the capacity that those found."""
        for number in range(1, self._options.rounds + 1):
            for trace in self._traces.values():
                if "ceiling" in self._options.systems:
                    yield from self._ceiling(trace, number)
                for concurrency in self._options.concurrency:
                    yield from self._closed(trace, concurrency, number)
        if self._options.open_loop and "mixed" in self._traces:
            yield from self._open(self._traces["mixed"])

    def cost(self) -> float:
        """About how many seconds all steps take, as their costs have it."""
        options, count = self._options, sum(len(runner.wires) for runner in self._runners)
        closed = count * len(options.concurrency) * (options.seconds + OVERHEAD)
        inside = 0.0
        if "ceiling" in options.systems:
            inside = sum(step.cost for trace in self._traces.values() for step in self._ceiling(trace, 1))
        opened = count * (len(SHARES) + 1) * (2 * options.seconds + OVERHEAD) if options.open_loop else 0.0
        return options.rounds * (inside + len(self._traces) * closed) + opened

    def run(self, step: Step) -> Figures | None:
        """Make one measurement and keep it; None, and a remark, where it cannot be made."""
        try:
            figures = step.measure()
        except CannotRun as error:
            about = next(r.about for r in self._runners if step.row in [wire.row for wire in r.wires])
            about.notes.append(f"{step.row}, {step.trace}, {step.load}: {error}")
            return None
        self._results.add(step.row, step.trace, step.load, step.round, figures)
        return figures

    def _ceiling(self, trace: Trace, number: int) -> Iterator[Step]:
        seconds, session = self._options.seconds, self._session
        for strategy in ceiling.strategies(session.cores):
            measure = partial(session.saturated, strategy, trace.texts, seconds / 2)
            yield Step(strategy.row, trace.name, ceiling.LOAD, number, max(seconds / 2, 2), measure)
        for inside in dict.fromkeys((1, session.cores)):
            measure = partial(session.one_by_one, inside, trace.few.texts, seconds / 2)
            yield Step(ceiling.bare(inside), trace.name, callers(1), number, seconds / 2, measure)

    def _closed(self, trace: Trace, concurrency: int, number: int) -> Iterator[Step]:
        for runner, wire in self._in_turn(number):
            load = callers(concurrency)
            seconds = self._seconds(wire.row, trace.name, load, concurrency)
            most = LONGER * self._options.seconds
            asked = trace.few if concurrency == 1 else trace
            measure = partial(_closed, runner, wire, asked, concurrency, seconds, most)
            yield Step(wire.row, trace.name, load, number, self._options.seconds + OVERHEAD, measure)

    def _seconds(self, row: str, trace: str, load: str, concurrency: int) -> float:
        """Long enough for some answers a caller: by the rounds before, else by what fewer callers got."""
        loads = [load, *map(callers, reversed(self._options.concurrency))]
        known = next((found for one in loads if (found := self._results.over(row, trace, one))), None)
        seconds = self._options.seconds
        if not known or not known.rate:
            return seconds
        return min(max(seconds, (4 * concurrency + 50) / known.rate), LONGER * seconds)

    def _open(self, trace: Trace) -> Iterator[Step]:
        seconds = 2 * self._options.seconds
        for share, (runner, wire) in itertools.product((*SHARES, None), self._in_turn(1)):
            load = BURST if share is None else share_of_capacity(share)
            capacity = self._results.over(wire.row, trace.name, callers(max(self._options.concurrency)))
            if capacity and capacity.rate:
                rate = (share or BURST_SHARE) * capacity.rate
                measure = partial(_open, runner, wire, trace, rate, share is None, seconds)
                yield Step(wire.row, trace.name, load, 1, seconds + OVERHEAD, measure)

    def _in_turn(self, number: int) -> list[tuple[Runner, Wire]]:
        """Every wire, beginning at another one each round: whoever follows a hot neighbour is not always the same."""
        found = [(runner, wire) for runner in self._runners for wire in runner.wires]
        start = (number - 1) * len(found) // max(1, self._options.rounds)
        return found[start:] + found[:start]


def _closed(runner: Runner, wire: Wire, trace: Trace, concurrency: int, seconds: float, most: float) -> Figures:
    """One measurement; a second and longest one where the first gave hardly any answers a caller."""

    def once(seconds: float) -> Figures:
        address = runner.address(wire)
        if wire.encode:
            return wrk.run(address, runner.requests(wire, trace), concurrency, seconds)
        return perf_analyzer.closed(address, wire.model, wire.v2, runner.texts(trace), concurrency, seconds)

    with runner.awake():
        try:
            found = once(seconds)
        except CannotRun:
            # perf_analyzer fails where one of its windows has no answer.
            if seconds >= most:
                raise
            found = Figures(0.0)
        if found.rate * found.seconds < ENOUGH * concurrency and seconds < most:
            found = once(most)
    if found.rate * found.seconds < ENOUGH * concurrency:
        load = f"{wire.row}, {trace.name}, {callers(concurrency)}"
        few = f"{load}: less than {ENOUGH} answers a caller, so latencies are cut short"
        runner.about.notes += [few] if few not in runner.about.notes else []
    return found


def _open(runner: Runner, wire: Wire, trace: Trace, rate: float, burst: bool, seconds: float) -> Figures:
    arrivals = itertools.takewhile(lambda at: at < seconds, bursts(rate, seed=0)) if burst else None
    with runner.awake():
        if not wire.v2 or perf_analyzer.why_absent():
            url = f"http://{runner.address(wire)}{wire.path}"
            return open_loop.run(url, wire.bodies(trace.texts), rate, seconds, arrivals)
        wanted: float | Path = rate
        if arrivals:
            wanted = runner.home / "intervals.txt"
            perf_analyzer.write_intervals(wanted, arrivals)
        figures, late = perf_analyzer.open_loop(
            runner.address(wire), wire.model, wire.v2, runner.texts(trace), wanted, seconds
        )
    if late > 0.1:
        load = BURST if burst else f"{rate:.0f} a second"
        runner.about.notes.append(
            f"{wire.row}, {load}: perf_analyzer sent {late:.0%} late, so latencies are understated"
        )
    return figures

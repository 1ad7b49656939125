"""What the gateway should reach, as ratios inside one run, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from loadtest.bench import ceiling
from loadtest.bench.figures import Over, Results
from loadtest.bench.rounds import callers, share_of_capacity
from loadtest.bench.systems import GATEWAY_ROWS, PLAIN_ROW

HTTP_JSON, _, GRPC = GATEWAY_ROWS
SATURATED = callers(64)
MEGABYTE = 1e6


@dataclass(frozen=True)
class Goal:
    """One goal and what was measured; ``measured`` is None where that was not part of the run."""

    what: str
    bound: float
    at_least: bool
    measured: float | None
    unit: str = "x"
    basis: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it holds, None where it was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    @property
    def wanted(self) -> str:
        """The bound as text."""
        return f"{'>=' if self.at_least else '<='} {self.bound:g} {self.unit}"

    @property
    def verdict(self) -> str:
        """Met, or by how much it was missed."""
        if self.met is None:
            return "not measured"
        if self.met or self.measured is None:
            return "met"
        return f"missed by {abs(self.measured - self.bound) / self.bound:.0%}"


def goals(results: Results, peers: Sequence[str], batch_invariant: bool, memory: Goal | None = None) -> list[Goal]:
    """Every goal in the order of the document; ``peers`` are the rows that batch and pad."""
    found = [
        *_of_ceiling(results, batch_invariant),
        *_against_plain(results),
        *_against_peers(results, peers),
        *_added(results),
        *_tail(results),
        *_start(results),
    ]
    flat = Goal("memory growth in 10 minutes of random lengths", 5, False, None, "%", "python -m loadtest.bench.memory")
    return [*found, memory or flat]


def _of_ceiling(results: Results, batch_invariant: bool) -> Iterator[Goal]:
    for trace, bound in (("short", 0.80), ("mixed", 0.90)):
        for row in (HTTP_JSON, GRPC):
            for alone in (False,) if batch_invariant else (False, True):
                top = ceiling.best(results, trace, alone)
                kind = "of the ceiling, rows alone" if alone else "of the ceiling"
                rate = _ratio(_rate(results.over(row, trace, SATURATED)), top[1] if top else None)
                yield Goal(f"{row}, {trace}, c = 64: throughput {kind}", bound, True, rate, basis=top[0] if top else "")


def _against_plain(results: Results) -> Iterator[Goal]:
    for trace, least in (("mixed", 1.05), ("short", 1.25)):
        own, plain = (results.over(row, trace, SATURATED) for row in (HTTP_JSON, PLAIN_ROW))
        what = f"{HTTP_JSON} against {PLAIN_ROW}, {trace}, c = 64"
        yield Goal(f"{what}: throughput", least, True, _ratio(_rate(own), _rate(plain)))
        yield Goal(f"{what}: p50", 0.8, False, _ratio(_p50(own), _p50(plain)))
        yield Goal(f"{what}: p99", 1.0, False, _ratio(_p99(own), _p99(plain)))


def _against_peers(results: Results, peers: Sequence[str]) -> Iterator[Goal]:
    for trace, least, most in (("mixed", 5.0, 0.2), ("short", 1.5, 0.7)):
        own = results.over(HTTP_JSON, trace, SATURATED)
        found = {row: over for row in peers if (over := results.over(row, trace, SATURATED)) and over.rate}
        fastest = max(found, key=lambda row: found[row].rate, default="")
        lowest = min(found, key=lambda row: _p99(found[row]) or math.inf, default="")
        what = f"{HTTP_JSON} against the best batching peer, {trace}, c = 64"
        yield Goal(f"{what}: throughput", least, True, _ratio(_rate(own), _rate(found.get(fastest))), basis=fastest)
        yield Goal(f"{what}: p99", most, False, _ratio(_p99(own), _p99(found.get(lowest))), basis=lowest)


def _added(results: Results) -> Iterator[Goal]:
    for row, most in zip(GATEWAY_ROWS, (0.5, 0.5, 0.7), strict=True):
        for trace in ("short", "mixed"):
            own = _p50(results.over(row, trace, callers(1)))
            bare = _p50(results.over(ceiling.bare(1), trace, callers(1)))
            added = None if own is None or bare is None else own - bare
            yield Goal(f"{row}, {trace}, c = 1: added to bare encode + run, median", most, False, added, "ms")


def _tail(results: Results) -> Iterator[Goal]:
    for row in GATEWAY_ROWS:
        found = results.over(row, "mixed", share_of_capacity(0.8))
        yield Goal(f"{row}, mixed, 0.8 of capacity: p99 over p50", 4, False, _ratio(_p99(found), _p50(found)))


def _start(results: Results) -> Iterator[Goal]:
    about = results.systems.get("gateway")
    yield Goal("gateway: start to the first answer", 1.0, False, about.ready if about else None, "s")
    memory = about.memory / MEGABYTE if about and about.memory else None
    yield Goal("gateway: memory under load (PSS)", 200, False, memory, "MB")


def _ratio(own: float | None, other: float | None) -> float | None:
    return own / other if own is not None and other else None


def _rate(found: Over | None) -> float | None:
    return found.rate if found else None


def _p50(found: Over | None) -> float | None:
    return found.p50 if found else None


def _p99(found: Over | None) -> float | None:
    return found.p99 if found else None

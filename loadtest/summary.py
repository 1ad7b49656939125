"""Figures of a load test, computed from its records alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.run import Record

Numbers = NDArray[np.float64]
Spread = Mapping[str, float]

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}
LATE = 10.0
BUSY = 0.9
BUCKETS = 600


@dataclass(frozen=True)
class Failures:
    """How many requests failed in one way, with what the server said to the first of them."""

    kind: str
    count: int
    message: str


@dataclass(frozen=True)
class Second:
    """One bucket of about a second that begins at ``start``: rates a second, latencies in ms (None without answers).

    ``answered`` and ``failed`` are counted when they end, ``offered`` and the latencies when they were intended.
    """

    start: float
    offered: float
    answered: float
    failed: float
    p50: float | None
    p99: float | None


@dataclass(frozen=True)
class Summary:
    """What a load test found; times are in milliseconds but for ``seconds``, which was measured.

    ``latency`` counts from the intended time and ``service`` from the time it was really sent, both of good
    answers to requests intended after the warm-up; ``lateness`` is how much later than intended requests were sent.
    All are None without requests of that sort; the last two also in a closed loop, where they say nothing.
    ``throughput`` counts the good answers that came while it was measured, whenever they were asked for.
    """

    seconds: float
    requests: int
    succeeded: int
    failed: int
    error_rate: float | None
    throughput: float
    rows_per_second: float
    latency: Spread | None
    service: Spread | None
    lateness: Spread | None
    processor: float
    errors: tuple[Failures, ...]
    over_time: tuple[Second, ...]
    warnings: tuple[str, ...]


def summarise(records: Sequence[Record], seconds: float, rows: int, open_loop: bool, processor: float = 0.0) -> Summary:
    """The figures of ``records`` over the ``seconds`` after the warm-up, for requests of ``rows`` rows each.

    ``processor`` is the share of one core that the load generator used.
    """
    measured = [record for record in records if record.intended >= 0]
    failed = [record.failure for record in measured if record.failure is not None]
    counts = Counter(failure.kind for failure in failed)
    first = {failure.kind: failure.message for failure in reversed(failed)}
    answered = sum(record.failure is None and 0 <= record.ended <= seconds for record in records)
    lateness = spread(late(measured)) if open_loop else None
    throughput = answered / seconds if seconds > 0 else 0.0
    return Summary(
        seconds=seconds,
        requests=len(measured),
        succeeded=len(measured) - len(failed),
        failed=len(failed),
        error_rate=len(failed) / len(measured) if measured else None,
        throughput=throughput,
        rows_per_second=throughput * rows,
        latency=spread(latencies(measured)),
        service=spread(services(measured)) if open_loop else None,
        lateness=lateness,
        processor=processor,
        errors=tuple(Failures(kind, count, first[kind]) for kind, count in counts.most_common()),
        over_time=_over_time(records, seconds),
        warnings=tuple(_warnings(records, seconds, open_loop, lateness, processor)),
    )


def latencies(records: Sequence[Record]) -> Numbers:
    """Milliseconds from the intended time to the end, of good answers to requests after the warm-up."""
    return np.array([1e3 * (record.ended - record.intended) for record in _good(records)])


def services(records: Sequence[Record]) -> Numbers:
    """Milliseconds from the time of sending to the end, of good answers to requests after the warm-up."""
    return np.array([1e3 * (record.ended - record.sent) for record in _good(records)])


def late(records: Sequence[Record]) -> Numbers:
    """Milliseconds from the intended time to the time of sending, of all requests after the warm-up that were sent."""
    sent = [record for record in records if record.intended >= 0 and math.isfinite(record.sent)]
    return np.array([1e3 * (record.sent - record.intended) for record in sent])


def _good(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.failure is None and record.intended >= 0]


def spread(values: Numbers) -> Spread | None:
    """Mean, percentiles (linear between the two nearest values, as numpy has it) and maximum; None of no values."""
    if not values.size:
        return None
    percentiles = zip(PERCENTILES, np.percentile(values, list(PERCENTILES.values())), strict=True)
    return {"mean": float(values.mean())} | {name: float(at) for name, at in percentiles} | {"max": float(values.max())}


def _over_time(records: Sequence[Record], seconds: float) -> tuple[Second, ...]:
    if seconds <= 0:
        return ()
    count = int(np.clip(round(seconds), 1, BUCKETS))
    width = seconds / count
    good = [record for record in records if record.failure is None]

    def rate(times: list[float]) -> list[float]:
        counts = np.histogram(times, bins=count, range=(0, seconds))[0]
        return [float(number) / width for number in counts]

    offered = rate([record.intended for record in records])
    answered = rate([record.ended for record in good])
    failed = rate([record.ended for record in records if record.failure is not None])
    taken = np.array([1e3 * (record.ended - record.intended) for record in good])
    place = np.floor(np.array([record.intended for record in good]) / width)
    buckets = []
    for index in range(count):
        own = taken[place == index]
        p50, p99 = np.percentile(own, [50, 99]).tolist() if own.size else (None, None)
        buckets.append(Second(index * width, offered[index], answered[index], failed[index], p50, p99))
    return tuple(buckets)


def _warnings(
    records: Sequence[Record], seconds: float, open_loop: bool, lateness: Spread | None, processor: float
) -> list[str]:
    found = []
    if lateness and lateness["p99"] > LATE:
        found.append(
            f"The load generator itself was late: 1 of 100 requests was sent {lateness['p99']:.0f} ms or more after "
            "its time. Latency holds this delay. Lower --rate, or run the generator on another machine."
        )
    if processor > BUSY:
        found.append(
            f"The load generator used {processor:.0%} of a core, about all it can: part of what was measured is its "
            "own work. Run it on another machine, or several of them."
        )
    asked = sum(0 <= record.sent <= seconds for record in records)
    ended = sum(0 <= record.ended <= seconds for record in records)
    if open_loop and ended < 0.9 * asked:
        found.append(
            f"The server did not keep up: {asked:,} requests were sent and {ended:,} done with in that time. "
            "The queue grows for as long as that lasts, so these latencies say how long the test was, not how fast "
            "the server is."
        )
    good = len(_good(records))
    if 0 < good < 1000:
        found.append(f"p99.9 rests on {good:,} answers, so it is hardly more than the maximum; 1,000 are the least.")
    return found

"""What a person watches while a load test runs."""

from __future__ import annotations

import asyncio

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from loadtest.run import Run
from loadtest.summary import Summary

REFRESH = 0.25
PLAIN = 2.0
RECENT = 500
"""Answers that the shown percentiles rest on: few enough that showing them does not delay the load."""


async def show(run: Run, console: Console) -> None:
    """Keep one line up to date on a terminal, else print a line every two seconds, until it is cancelled."""
    if not console.is_terminal:
        while True:
            before = len(run.records)
            await asyncio.sleep(PLAIN)
            console.print(line(run, (len(run.records) - before) / PLAIN), highlight=False, soft_wrap=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        seen: list[int] = []
        while True:
            seen = [*seen[-4:], len(run.records)]
            rate = (seen[-1] - seen[0]) / (REFRESH * max(1, len(seen) - 1))
            live.update(Text(line(run, rate)), refresh=True)
            await asyncio.sleep(REFRESH)


def line(run: Run, rate: float) -> str:
    """Where the run stands; ``rate`` is in requests a second."""
    now = run.now()
    elapsed = f"{now:6.1f} s" if now >= 0 else f"warm-up {-now:.1f} s"
    done = len(run.records)
    good = [1e3 * (record.ended - record.intended) for record in run.records[-RECENT:] if record.failure is None]
    p50, p99 = np.percentile(good, [50, 99]) if good else (np.nan, np.nan)
    return (
        f"{elapsed}  sent {done + run.outstanding:,}  ok {done - run.failed:,}  errors {run.failed:,}  "
        f"{rate:,.1f} req/s  p50 {p50:.1f} ms  p99 {p99:.1f} ms"
    )


def closing(summary: Summary) -> str:
    """The key figures as a few lines of text."""
    lines = [
        f"{summary.requests:,} requests in {summary.seconds:.1f} s: {summary.throughput:,.1f} good answers a second, "
        f"{summary.failed:,} errors"
    ]
    if summary.latency:
        lines.append("latency ms  " + "  ".join(f"{name} {value:,.1f}" for name, value in summary.latency.items()))
    lines += [f"error  {one.kind}: {one.count:,} times, first: {one.message}" for one in summary.errors]
    lines += [f"warning  {warning}" for warning in summary.warnings]
    return "\n".join(lines)

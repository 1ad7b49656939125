"""Who watches a load test sees where it stands, on a terminal and in the log of a CI job."""

from __future__ import annotations

import asyncio
import io

from rich.console import Console

from loadtest.progress import show
from loadtest.run import Run
from loadtest.settings import Settings
from loadtest.target import Failure
from tests.loadtest import virtual_time


def watched(console: Console) -> None:
    async def send(number: int) -> Failure | None:
        await asyncio.sleep(0.1)
        return Failure("HTTP 503", "busy") if number % 10 == 9 else None

    async def both() -> None:
        run = Run(Settings("http://x", concurrency=2, duration=4.5, warmup=1), send)
        progress = asyncio.create_task(show(run, console))
        await run.measure()
        progress.cancel()
        await asyncio.wait([progress])

    virtual_time.run(both())


def test_log_has_a_plain_line_every_two_seconds() -> None:
    target = io.StringIO()
    watched(Console(file=target, width=40))
    lines = target.getvalue().splitlines()
    assert len(lines) == 2
    first, second = (" ".join(line.split()) for line in lines)
    assert first.startswith("1.0 s sent 40 ok")
    assert second.startswith("3.0 s sent 80 ok")
    assert second.endswith("20.0 req/s p50 100.0 ms p99 100.0 ms")
    assert "\x1b" not in target.getvalue()


def test_terminal_has_one_line_that_is_kept_up_to_date() -> None:
    target = io.StringIO()
    watched(Console(file=target, width=120, force_terminal=True))
    shown = target.getvalue()
    assert "warm-up 0.5 s" in shown
    assert "4.0 s" in shown
    assert "errors" in shown
    assert shown.count("\n") <= 2

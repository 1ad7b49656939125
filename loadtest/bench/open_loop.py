"""Open loops for servers that do not speak v2 completely: our own generator, with requests made before the run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp

from loadtest.bench.figures import Figures
from loadtest.run import Run
from loadtest.settings import Settings
from loadtest.summary import summarise
from loadtest.target import Failure

Body = tuple[dict[str, str], bytes]


def run(url: str, bodies: Sequence[Body], rate: float, seconds: float, arrivals: Iterator[float] | None) -> Figures:
    """Requests at ``arrivals``, or at random times of ``rate`` a second; latency counts from when one was due."""
    return asyncio.run(_run(url, bodies, rate, seconds, arrivals))


async def _run(
    url: str, bodies: Sequence[Body], rate: float, seconds: float, arrivals: Iterator[float] | None
) -> Figures:
    settings = Settings(url, rate=rate, concurrency=None, duration=seconds, warmup=0.0, output=Path())
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def send(number: int) -> Failure | None:
            headers, body = bodies[number % len(bodies)]
            try:
                async with session.post(url, data=body, headers=headers) as response:
                    await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                return Failure("connection", repr(error))
            return None if response.status == 200 else Failure(f"HTTP {response.status}", "")

        load = Run(settings, send, arrivals=arrivals)
        await load.measure()
    summary = summarise(load.records, load.span, 1, open_loop=True)
    latency = summary.latency or {}
    return Figures(summary.throughput, latency.get("p50"), latency.get("p99"), summary.failed, summary.seconds)

"""Turns of the event loop: how a test waits for what no event announces, without waiting for time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.serving.held_backend import PATIENCE


async def until(condition: Callable[[], object]) -> None:
    """Give the event loop turns until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


def polled(condition: Callable[[], object], patience: float) -> bool:
    """Ask another process, as often as it takes, whether something holds; false when it never did."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True

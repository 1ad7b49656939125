"""Turns of the event loop: how a test waits for what no event announces, without waiting for time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.serving.held_backend import PATIENCE


async def until(condition: Callable[[], object]) -> None:
    """Give the event loop turns until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)

"""A clock that only moves when a test says so."""

from __future__ import annotations


class Clock:
    """Seconds since the start of the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        self.now += seconds

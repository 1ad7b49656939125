"""The waiting rows in order of urgency; not locked, since the scheduler locks around every call."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from operator import attrgetter
from typing import Any

from serving.errors import DeadlineExceeded

# Batches are formed from this many of the most urgent rows, so that forming one stays cheap under overload.
WINDOW = 256
EXPIRED = "Request timeout expired"  # as Triton says it


@dataclass(eq=False)
class Entry:
    """One waiting row: what to run, its length in tokens, its times on the scheduler's clock, and its answer.

    It must begin to run before ``begin_by`` and be answered before ``answer_by``; its run is predicted to take ``cost``
    seconds. Until ``held_until`` it may be held back for company. ``group`` is the request it belongs to. From
    ``demoted_at`` on it comes after all others of its ``level``.
    """

    payload: Any
    length: int
    arrival: float
    due: float
    begin_by: float
    answer_by: float
    cost: float
    held_until: float
    level: int = 0
    group: object = None
    demoted_at: float = inf
    demoted: bool = False
    future: Future[Any] = field(default_factory=Future)

    @property
    def latest(self) -> float:
        """When it must begin, as far as its predicted cost tells."""
        return min(self.begin_by, self.answer_by - self.cost)

    @property
    def rank(self) -> tuple[int, bool]:
        """Rows of a smaller rank run before this one."""
        return self.level, self.demoted

    @property
    def urgency(self) -> tuple[int, bool, float]:
        """What the queue is sorted by, the smallest first."""
        return *self.rank, self.due

    def is_alive(self, now: float) -> bool:
        """Whether somebody still waits for the row; an expired one is told so and not run."""
        if self.future.cancelled():
            return False
        if self.begin_by <= now or self.answer_by <= now:
            if self.future.set_running_or_notify_cancel():
                self.future.set_exception(DeadlineExceeded(EXPIRED))
            return False
        return True


class Queue:
    """Entries by urgency, how many there are of each level, and the predicted seconds of running them."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._rows: Counter[int] = Counter()
        self._backlog: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self, level: int) -> int:
        """How many rows of a level wait."""
        return self._rows[level]

    def backlog(self, level: int | None = None) -> float:
        """Predicted seconds of running all that waits, or what comes before a row of this level."""
        # A copy, since metrics are read by another thread.
        return sum(cost for own, cost in self._backlog.copy().items() if level is None or own <= level)

    def held_until(self) -> float:
        """When the first of the most urgent rows may be held back no longer."""
        return min(entry.held_until for entry in self._entries[:WINDOW])

    def add(self, entry: Entry) -> None:
        """Put a row where its urgency belongs."""
        insort(self._entries, entry, key=attrgetter("urgency"))
        self._rows[entry.level] += 1
        self._backlog[entry.level] = self._backlog.get(entry.level, 0.0) + entry.cost

    def remove(self, entries: Sequence[Entry]) -> None:
        """Take rows out."""
        gone = set(map(id, entries))
        self._entries = [entry for entry in self._entries if id(entry) not in gone]
        for entry in entries:
            self._rows[entry.level] -= 1
            # No rows cost exactly nothing: rounding must not add up to a wait that is not there.
            left = self._backlog[entry.level] - entry.cost
            self._backlog[entry.level] = max(0.0, left) if self._rows[entry.level] else 0.0

    def drop_dead(self, now: float) -> None:
        """Take out every row that nobody waits for."""
        self.remove([entry for entry in self._entries if not entry.is_alive(now)])

    def window(self, now: float) -> Sequence[Entry]:
        """The most urgent rows that are alive, in order; what waited beyond its time is put behind its level."""
        while self._entries:
            seen = self._entries[:WINDOW]
            dead = [entry for entry in seen if not entry.is_alive(now)]
            late = [entry for entry in seen if not entry.demoted and entry.demoted_at <= now]
            if not dead and not late:
                return seen
            self.remove([*dead, *(entry for entry in late if entry not in dead)])
            for entry in late:
                if entry not in dead:
                    entry.demoted = True
                    self.add(entry)
        return ()

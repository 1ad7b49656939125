"""The waiting rows in order of urgency and, beside it, of length; the scheduler locks around every call."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any

from serving.errors import DeadlineExceeded

# As many of the most urgent rows are looked at where a whole queue need not be, so that it stays cheap under overload.
WINDOW = 256
EXPIRED = "Request timeout expired"  # as Triton says it


@dataclass(eq=False, slots=True)
class Entry:
    """One waiting row: what to run, its length in tokens, its times on the scheduler's clock, and its answer.

    It must begin to run before ``begin_by`` and be answered before ``answer_by``; its run is predicted to take ``cost``
    seconds. Until ``held_until`` it may be held back for company. ``group`` is the request it belongs to. From
    ``demoted_at`` on it comes after all others of its ``level``. ``number`` is given by the queue, in order of arrival.
    """

    payload: Any
    length: int
    arrival: float
    due: float
    begin_by: float
    answer_by: float
    cost: float
    held_until: float
    future: Future[Any]
    level: int = 0
    group: object = None
    demoted_at: float = inf
    demoted: bool = False
    number: int = -1
    waiting: bool = False

    @property
    def latest(self) -> float:
        """When it must begin, as far as its predicted cost tells."""
        return min(self.begin_by, self.answer_by - self.cost)

    @property
    def rank(self) -> int:
        """Rows of a smaller rank run before this one."""
        return 2 * self.level + self.demoted

    def is_alive(self, now: float) -> bool:
        """Whether somebody still waits for the row, and it may still run."""
        return self.begin_by > now and self.answer_by > now and not self.future.cancelled()

    def tell_expired(self) -> None:
        """Tell the caller, unless it left, that the time of the row passed."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(DeadlineExceeded(EXPIRED))


# What lists are sorted by, and its entry: (rank, due, number, entry), or (length, due, number, entry) for mates. Tuples
# of numbers are compared in C, and the number, which no two rows share, keeps entries from being compared.
Key = tuple[int, float, int, Entry]


class Queue:
    """Entries by urgency and by length, how many there are of each level, and the predicted seconds of running them.

    Adding and removing a row are two binary searches and two moves in flat lists: microseconds at thousands of rows.
    With ``across`` all rows may be mates, without it those of one group.
    """

    def __init__(self, across: bool = True) -> None:
        self._across = across
        self._order: list[Key] = []
        self._mates: dict[object, dict[int, list[Key]]] = {}
        self._to_demote: list[tuple[float, int, Entry]] = []
        self._dropped: list[Entry] = []
        self._numbers = count()
        self._rows: Counter[int] = Counter()
        self._backlog: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Entry]:
        return (key[3] for key in self._order)

    def rows(self, level: int) -> int:
        """How many rows of a level wait."""
        return self._rows[level]

    def backlog(self, level: int | None = None) -> float:
        """Predicted seconds of running all that waits, or what comes before a row of this level."""
        # A copy, since metrics are read by another thread.
        return sum(cost for own, cost in self._backlog.copy().items() if level is None or own <= level)

    def held_until(self) -> float:
        """When the first of the most urgent rows may be held back no longer."""
        return min(key[3].held_until for key in self._order[:WINDOW])

    def add(self, entry: Entry) -> None:
        """Put a row where its urgency and its length belong."""
        if entry.number < 0:
            entry.number = next(self._numbers)
            if entry.demoted_at < inf:
                heappush(self._to_demote, (entry.demoted_at, entry.number, entry))
        rank, due, number = entry.rank, entry.due, entry.number
        insort(self._order, (rank, due, number, entry))
        mates = self._mates.setdefault(None if self._across else entry.group, {})
        insort(mates.setdefault(rank, []), (entry.length, due, number, entry))
        self._rows[entry.level] += 1
        self._backlog[entry.level] = self._backlog.get(entry.level, 0.0) + entry.cost
        entry.waiting = True

    def remove(self, entries: Iterable[Entry]) -> None:
        """Take rows out."""
        for entry in entries:
            rank, due, number = entry.rank, entry.due, entry.number
            del self._order[bisect_left(self._order, (rank, due, number))]
            company = None if self._across else entry.group
            mates = self._mates[company]
            del mates[rank][bisect_left(mates[rank], (entry.length, due, number))]
            if not mates[rank]:
                del mates[rank]
                if not mates:
                    del self._mates[company]
            self._rows[entry.level] -= 1
            # No rows cost exactly nothing: rounding must not add up to a wait that is not there.
            left = self._backlog[entry.level] - entry.cost
            self._backlog[entry.level] = max(0.0, left) if self._rows[entry.level] else 0.0
            entry.waiting = False

    def drop(self, dead: Sequence[Entry]) -> None:
        """Take out rows that are not alive; their callers are to be told."""
        self.remove(dead)
        self._dropped += dead

    def drop_dead(self, now: float, most: int | None = None) -> None:
        """Drop every row that is not alive, or those among so many of the most urgent."""
        self.drop([key[3] for key in self._order[:most] if not key[3].is_alive(now)])

    def dropped(self) -> Sequence[Entry]:
        """The rows that were dropped since this was last asked."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def head(self, now: float) -> Entry | None:
        """The most urgent row that is alive; what waited beyond its time is first put behind its level."""
        self._demote(now)
        while self._order:
            first = self._order[0][3]
            if first.is_alive(now):
                return first
            self.drop([first])
        return None

    def mates(self, head: Entry) -> list[Sequence[Key]]:
        """The rows that may run with this one, a list for each rank from its own on, each in order of length."""
        mates = self._mates[None if self._across else head.group]
        return [mates[rank] for rank in sorted(mates) if rank >= head.rank]

    def _demote(self, now: float) -> None:
        while self._to_demote and self._to_demote[0][0] <= now:
            _, _, entry = heappop(self._to_demote)
            if entry.waiting:
                self.remove([entry])
                entry.demoted = True
                self.add(entry)

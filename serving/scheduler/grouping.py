"""Which rows run together: those of like length around the most urgent one, as long as each saves run time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import inf

from serving.scheduler.limits import Limits
from serving.scheduler.queue import Entry, Key

Cost = Callable[[int, int], float]


class Group:
    """A batch that grows around its head, up to ``rows`` rows; ``dead`` are rows found on the way that nobody awaits.

    At each step the neighbour in length joins, shorter or longer, that saves most: what its own run would cost less
    what the batch costs more with it. Its longer neighbour makes every row longer, its shorter one is padded. It stays
    as it is once neither saves more than ``limits.gain`` of its own cost (the error of the cost model, and the time
    that the head waits for company), breaks a limit, or would make the head late.
    """

    def __init__(self, head: Entry, rows: int, limits: Limits, cost: Cost, now: float) -> None:
        self.entries, self.dead = [head], list[Entry]()
        self._rows, self._limits, self._cost, self._now = rows, limits, cost, now
        self._longest, self._squares, self._seconds = head.length, head.length**2, head.cost
        # A head that is late already, as far as is known, is at least not made later for long.
        self._most_seconds = max(head.cost, head.answer_by - now)

    def grow(self, mates: Sequence[Key]) -> bool:
        """Take in rows of a list in order of length; whether none of it was left out."""
        head = self.entries[0]
        right = bisect_left(mates, (head.length,))
        left = right - 1
        while len(self.entries) < self._rows:
            while right < len(mates) and not self._is_free(mates[right][3]):
                right += 1
            while left >= 0 and not self._is_free(mates[left][3]):
                left -= 1
            longer = self._saving(mates[right][3]) if right < len(mates) else -inf
            shorter = self._saving(mates[left][3]) if left >= 0 else -inf
            if max(longer, shorter) == -inf:
                return left < 0 and right == len(mates)
            if longer > shorter or (longer == shorter and mates[right][0] + mates[left][0] <= 2 * head.length):
                self._add(mates[right][3])
                right += 1
            else:
                self._add(mates[left][3])
                left -= 1
        return False

    def _is_free(self, entry: Entry) -> bool:
        if entry is self.entries[0]:
            return False
        if entry.is_alive(self._now):
            return True
        self.dead.append(entry)
        return False

    def _saving(self, entry: Entry) -> float:
        """Seconds of run time that taking the row in saves; -inf where it must not be."""
        limits, size = self._limits, len(self.entries) + 1
        longest = max(self._longest, entry.length)
        if size * longest > limits.max_tokens:
            return -inf
        if size * longest**2 > limits.max_waste * (self._squares + entry.length**2):
            return -inf
        together = self._cost(size, longest)
        saving = self._seconds + entry.cost - together
        return saving if saving > limits.gain * entry.cost and together <= self._most_seconds else -inf

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._longest = max(self._longest, entry.length)
        self._squares += entry.length**2
        self._seconds = self._cost(len(self.entries), self._longest)

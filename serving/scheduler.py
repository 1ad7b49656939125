"""Which rows run together, and when: pure, with the run and the clock given from outside.

Work-conserving: an idle runner takes what is there and never waits for more; batches form while runners are busy.
What is minimised is predicted run time, so rows are grouped by like length and padding is bounded.
"""

from __future__ import annotations

import logging
import threading
from bisect import insort
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import ceil
from operator import attrgetter
from typing import Any

from serving.errors import DeadlineExceeded, NotReady, Overloaded

log = logging.getLogger(__name__)

# A batch is formed from this many of the most urgent rows, so that forming it stays cheap under overload.
WINDOW = 256

Run = Callable[[Sequence[Any]], Sequence[Any]]
Cost = Callable[[int, int], float]


@dataclass(frozen=True)
class Limits:
    """What the scheduler may do.

    ``capacity`` is in waiting rows, ``max_tokens`` in padded tokens of a batch. ``max_waste`` bounds B * Lmax^2 over
    the sum of L^2, the share of attention spent on padding. ``patience`` is in seconds: a row without a deadline, or
    with a later one, is as urgent as one whose deadline is that far away, which bounds how long it can be passed over.
    """

    capacity: int = 2048
    max_rows: int = 32
    max_tokens: int = 4096
    max_waste: float = 1.5
    patience: float = 10.0


@dataclass(eq=False)
class Entry:
    """One waiting row: what to run, its length in tokens, its times on the scheduler's clock, and its answer."""

    payload: Any
    length: int
    arrival: float
    due: float
    deadline: float | None
    cost: float
    future: Future[Any] = field(default_factory=Future)


@dataclass(frozen=True)
class Batch:
    """One finished run, as told to the observer. Times are in seconds."""

    lengths: tuple[int, ...]
    waits: tuple[float, ...]
    seconds: float

    @property
    def tokens(self) -> int:
        """Tokens of the rows themselves."""
        return sum(self.lengths)

    @property
    def padded(self) -> int:
        """Tokens that were computed, padding included."""
        return len(self.lengths) * max(self.lengths)


class Scheduler:
    """A queue in order of urgency and the runners that empty it.

    ``run`` answers a batch of payloads, in order; an answer that is an exception fails its own row only.
    ``cost(rows, length)`` predicts the seconds of one run. ``observe`` is told of every finished run.
    """

    def __init__(
        self,
        run: Run,
        cost: Cost,
        clock: Callable[[], float],
        limits: Limits,
        runners: int = 1,
        observe: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        self._run, self._cost, self._clock, self._observe = run, cost, clock, observe
        self._limits, self._runners = limits, runners
        self._waiting: list[Entry] = []
        self._backlog = 0.0
        self._closed = False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the runner threads."""
        for number in range(self._runners):
            thread = threading.Thread(target=self._work, name=f"runner-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def close(self) -> None:
        """Refuse new rows, answer the waiting ones, and wait for the runners to end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def waiting(self) -> int:
        """The number of rows in the queue."""
        return len(self._waiting)

    def predicted_wait(self) -> float:
        """Seconds until a row that came now would be run, as far as the cost model knows."""
        return self._backlog / self._runners

    def submit(self, payload: Any, length: int, deadline: float | None = None) -> Future[Any]:
        """Queue one row of ``length`` tokens; ``deadline`` is a time on the clock.

        Raises NotReady when closed, DeadlineExceeded when it is too late already, and Overloaded when the queue is
        full or the answer is predicted to come after the deadline.
        """
        now = self._clock()
        cost = self._cost(1, length)
        with self._changed:
            self._admit(now, cost, deadline)
            due = now + self._limits.patience if deadline is None else min(deadline, now + self._limits.patience)
            entry = Entry(payload, length, now, due, deadline, cost)
            insort(self._waiting, entry, key=attrgetter("due"))
            self._backlog += cost
            self._changed.notify()
        return entry.future

    def _admit(self, now: float, cost: float, deadline: float | None) -> None:
        if self._closed:
            raise NotReady("the model is being unloaded")
        late = deadline is not None and now + self.predicted_wait() + cost > deadline
        if late or len(self._waiting) >= self._limits.capacity:
            # Before anybody is sent away: rows whose callers left hold no place.
            self._remove([entry for entry in self._waiting if not self._is_alive(entry, now)])
        wait = self.predicted_wait()
        if len(self._waiting) >= self._limits.capacity:
            raise Overloaded(f"Exceeds maximum queue size ({self._limits.capacity} rows)", retry_after=wait)
        if deadline is None:
            return
        if deadline <= now:
            raise DeadlineExceeded("Request timeout expired before the row was queued")
        if now + wait + cost > deadline:
            raise Overloaded(
                f"the answer is predicted in {1000 * (wait + cost):.0f} ms, after the deadline in "
                f"{1000 * (deadline - now):.0f} ms; send less at once or allow more time",
                retry_after=wait,
            )

    def step(self) -> bool:
        """Run one batch if a row is waiting; whether one was."""
        entries = self._take()
        if entries:
            self._execute(entries)
        return bool(entries)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
            self.step()

    def _take(self) -> list[Entry]:
        """The next batch: the most urgent row and those that run well with it; dead rows are dropped on the way."""
        with self._changed:
            now = self._clock()
            while self._waiting:
                dead = [entry for entry in self._waiting[:WINDOW] if not self._is_alive(entry, now)]
                if not dead:
                    break
                self._remove(dead)
            else:
                return []
            batch = self._mates(self._waiting[0])
            self._remove(batch)
        return [entry for entry in batch if entry.future.set_running_or_notify_cancel()]

    def _is_alive(self, entry: Entry, now: float) -> bool:
        """Whether somebody still waits for the row; an expired one is told so and not run."""
        if entry.future.cancelled():
            return False
        if entry.deadline is not None and entry.deadline <= now:
            if entry.future.set_running_or_notify_cancel():
                entry.future.set_exception(DeadlineExceeded("Request timeout expired"))
            return False
        return True

    def _remove(self, entries: Sequence[Entry]) -> None:
        gone = set(map(id, entries))
        self._waiting = [entry for entry in self._waiting if id(entry) not in gone]
        # An empty queue is exactly zero: rounding must not add up to a wait that is not there.
        left = self._backlog - sum(entry.cost for entry in entries)
        self._backlog = max(0.0, left) if self._waiting else 0.0

    def _mates(self, head: Entry) -> list[Entry]:
        """The head and the rows nearest to it in length, as long as one run is not slower than two."""
        limits = self._limits
        # Rows are shared out between the runners before they are batched: two idle cores beat one batch.
        rows = min(limits.max_rows, ceil(len(self._waiting) / self._runners))
        batch, longest, squares, cost = [head], head.length, head.length**2, head.cost
        if rows == 1:
            return batch
        candidates = sorted(self._waiting[1:WINDOW], key=lambda entry: abs(entry.length - head.length))
        for entry in candidates:
            if len(batch) == rows:
                break
            size, longer = len(batch) + 1, max(longest, entry.length)
            together = self._cost(size, longer)
            if (
                size * longer > limits.max_tokens
                or size * longer**2 > limits.max_waste * (squares + entry.length**2)
                or together > cost + entry.cost
            ):
                break
            batch.append(entry)
            longest, squares, cost = longer, squares + entry.length**2, together
        return batch

    def _execute(self, entries: list[Entry]) -> None:
        begun = self._clock()
        try:
            answers = self._run([entry.payload for entry in entries])
            if len(answers) != len(entries):
                raise RuntimeError(f"the run gave {len(answers)} answers for {len(entries)} rows")
        except Exception as error:
            if len(entries) == 1:
                entries[0].future.set_exception(error)
            else:
                # One row may have spoiled the batch: alone, each gets its own answer or its own error.
                for entry in entries:
                    self._execute([entry])
            return
        lengths, waits = zip(*((entry.length, begun - entry.arrival) for entry in entries), strict=True)
        try:
            self._observe(Batch(lengths, waits, self._clock() - begun))
        except Exception:
            log.exception("the observer failed; the rows are answered all the same")
        for entry, answer in zip(entries, answers, strict=True):
            if isinstance(answer, Exception):
                entry.future.set_exception(answer)
            else:
                entry.future.set_result(answer)

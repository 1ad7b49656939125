"""The runners that empty the queue, a batch at a time.

Work-conserving: an idle runner takes what is there and never waits for more, unless a model's configuration asks for
a delay; batches form while runners are busy. What is minimised is predicted run time, so rows are grouped by like
length and padding is bounded.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

from serving.errors import DeadlineExceeded, NotReady, Overloaded
from serving.scheduler.grouping import Cost, Group
from serving.scheduler.limits import Limits
from serving.scheduler.queue import EXPIRED, WINDOW, Entry, Queue

log = logging.getLogger(__name__)

# Errors that no row of a batch is to blame for, so that running each alone would only repeat them.
NOT_OF_A_ROW = (NotReady, Overloaded, DeadlineExceeded)

Run = Callable[[Sequence[Any]], Sequence[Any]]


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
        self._waiting = Queue(limits.across)
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

    def predicted_wait(self, level: int | None = None) -> float:
        """Seconds until a row of this level (the last, by default) that came now would be run, as far as is known."""
        return self._waiting.backlog(level) / self._runners

    def submit(
        self,
        payload: Any,
        length: int,
        deadline: float | None = None,
        *,
        priority: int = 0,
        wait: float | None = None,
        group: object = None,
        future: Future[Any] | None = None,
    ) -> Future[Any]:
        """Queue one row of ``length`` tokens; ``deadline`` is when the answer must be there, a time on the clock;
        ``wait`` is in seconds until it must begin to run, as far as the policy of its level lets a request say so.

        Rows of the same ``group`` may run together whatever the limits say of different ones. The answer comes in
        ``future``, if one is given.

        Raises NotReady when closed, DeadlineExceeded when it is too late already, and Overloaded when the queue is full
        or the answer is predicted to come after the deadline.
        """
        now = self._clock()
        cost = self._cost(1, length)
        level = self._limits.level_of(priority)
        policy = self._limits.policy_of(level)
        allowed = policy.waiting_time(wait)
        demoted_at = inf if allowed is None or policy.reject else now + allowed
        begin_by = now + allowed if allowed is not None and policy.reject else inf
        answer_by = inf if deadline is None else deadline
        due = min(begin_by, answer_by, now + self._limits.may_be_passed_over(cost))
        answer = Future[Any]() if future is None else future
        entry = Entry(payload, length, now, due, begin_by, answer_by, cost, now, answer, level, group, demoted_at)
        # A row that would be too late after it was held back for company is not held back at all.
        if now + self._limits.delay < entry.latest:
            entry.held_until += self._limits.delay
        try:
            with self._changed:
                self._admit(entry, policy.capacity)
                self._waiting.add(entry)
                self._changed.notify()
        finally:
            self._tell()
        return entry.future

    def held(self) -> AbstractContextManager[Any]:
        """While it is open, what is submitted waits: rows that belong together are there before the first is taken."""
        return self._changed

    def _admit(self, entry: Entry, level_capacity: int | None) -> None:
        if self._closed:
            raise NotReady("the model is being unloaded")
        now = entry.arrival
        wait = self.predicted_wait(entry.level)
        if now + wait > entry.latest or self._is_full(entry.level, level_capacity):
            # Before anybody is sent away: rows whose callers left hold no place.
            self._waiting.drop_dead(now)
            wait = self.predicted_wait(entry.level)
        if self._is_full(entry.level, level_capacity):
            capacity = min(self._limits.capacity, level_capacity or self._limits.capacity)
            raise Overloaded(f"Exceeds maximum queue size ({capacity} rows)", retry_after=wait)
        if min(entry.begin_by, entry.answer_by) <= now:
            raise DeadlineExceeded(f"{EXPIRED} before the row was queued")
        if now + wait > entry.latest:
            raise Overloaded(
                f"the answer is predicted in {1000 * (wait + entry.cost):.0f} ms, after the deadline in "
                f"{1000 * (entry.latest + entry.cost - now):.0f} ms; send less at once or allow more time",
                retry_after=wait,
            )

    def _is_full(self, level: int, level_capacity: int | None) -> bool:
        return len(self._waiting) >= self._limits.capacity or (
            level_capacity is not None and self._waiting.rows(level) >= level_capacity
        )

    def step(self) -> bool:
        """Run one batch if a row may run now; whether one did."""
        entries = self.take()
        if entries:
            self.execute(entries)
        return bool(entries)

    def take(self) -> list[Entry]:
        """The next batch, for ``execute``: the most urgent row and those that run well with it; none if none may run.

        Dead rows are dropped on the way.
        """
        with self._changed:
            batch = self._batch(self._clock())
        self._tell()
        return [entry for entry in batch if entry.future.set_running_or_notify_cancel()]

    def _tell(self) -> None:
        """Tell the callers of dropped rows; not while the queue is locked, since what they do then is not ours."""
        with self._changed:
            dropped = self._waiting.dropped()
        for entry in dropped:
            entry.tell_expired()

    def _work(self) -> None:
        while True:
            with self._changed:
                while (pause := self._pause()) != 0:
                    if self._closed and not self._waiting:
                        return
                    self._changed.wait(pause)
            self.step()

    def _pause(self) -> float | None:
        """Seconds until a batch may be taken; None for when something changes."""
        if not self._waiting:
            return None
        if self._closed or not self._limits.delay or len(self._waiting) >= self._limits.enough:
            return 0
        return max(0, self._waiting.held_until() - self._clock())

    def _batch(self, now: float) -> list[Entry]:
        """The most urgent row and the rows that run well with it, taken out of the queue; none if none may run.

        Rows of a later rank only where all of an earlier one are in the batch: they must not slow it down for those.
        """
        limits = self._limits
        if limits.delay:
            # Callers that left are no company to wait for.
            self._waiting.drop_dead(now, WINDOW)
        head = self._waiting.head(now)
        if head is None or self._pause():
            return []
        # Rows are shared out between the runners before they are batched, two idle cores beat one batch; but not those
        # that were held back for a batch, or for which the configuration prefers one.
        waiting = len(self._waiting)
        rows = min(limits.max_rows, max(ceil(waiting / self._runners), limits.formed(waiting)))
        batch = [head]
        if rows > 1:
            group = Group(head, rows, limits, self._cost, now)
            for mates in self._waiting.mates(head):
                if not group.grow(mates):
                    break
            self._waiting.drop(group.dead)
            batch = group.entries[: limits.formed(len(group.entries)) or len(group.entries)]
        self._waiting.remove(batch)
        return batch

    def execute(self, entries: list[Entry]) -> None:
        """Run what was taken and answer its callers."""
        begun = self._clock()
        try:
            answers = self._run([entry.payload for entry in entries])
            if len(answers) != len(entries):
                raise RuntimeError(f"the run gave {len(answers)} answers for {len(entries)} rows")
        except Exception as error:
            self._failed(entries, error)
            return
        seconds = self._clock() - begun
        # First of all: while a caller's thread wakes up there is time for the observer.
        for entry, answer in zip(entries, answers, strict=True):
            if isinstance(answer, Exception):
                entry.future.set_exception(answer)
            else:
                entry.future.set_result(answer)
        lengths, waits = zip(*((entry.length, begun - entry.arrival) for entry in entries), strict=True)
        try:
            self._observe(Batch(lengths, waits, seconds))
        except Exception:
            log.exception("the observer failed; the rows were answered all the same")

    def _failed(self, entries: list[Entry], error: Exception) -> None:
        """One row may have spoiled the batch: alone, each gets its own answer or its own error."""
        for entry in entries:
            if len(entries) == 1 or isinstance(error, NOT_OF_A_ROW):
                entry.future.set_exception(error)
            elif entry.answer_by <= self._clock():
                entry.future.set_exception(DeadlineExceeded(EXPIRED))
            else:
                self.execute([entry])

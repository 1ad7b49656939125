"""What holds of the scheduler whatever comes: any rows, deadlines, cancellations, limits, costs and failures."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.cost import CostModel
from serving.errors import DeadlineExceeded, Overloaded
from serving.scheduler.limits import Limits
from serving.scheduler.runners import Scheduler
from tests.serving.clock import Clock


@dataclass
class Job:
    """A submitted row, and how often it ran and was completed."""

    length: int
    deadline: float | None
    due: float
    spoilt: bool
    future: Future[Any] = field(default_factory=Future)
    runs: int = 0
    completed: int = 0

    def is_alive(self, now: float) -> bool:
        return not self.future.done() and (self.deadline is None or self.deadline > now)


submissions = st.tuples(
    st.just("submit"), st.integers(1, 200), st.none() | st.floats(0.1, 40), st.sampled_from([False, False, False, True])
)
moves = st.lists(
    submissions
    | submissions
    | st.tuples(st.just("advance"), st.floats(0, 8))
    | st.tuples(st.just("cancel"), st.integers(0, 60))
    | st.tuples(st.just("step")),
    min_size=1,
    max_size=60,
)
limits = st.builds(
    Limits,
    capacity=st.integers(1, 30),
    max_rows=st.integers(1, 8),
    max_tokens=st.integers(50, 800),
    max_waste=st.floats(1, 3),
)
costs = st.builds(CostModel, base=st.floats(0, 0.5), token=st.floats(0, 1e-3), square=st.floats(0, 1e-5))


class Play:
    """Plays moves on a scheduler and checks every batch at the moment it runs."""

    def __init__(self, bounds: Limits, cost: CostModel, runners: int) -> None:
        self.bounds, self.clock, self.jobs = bounds, Clock(), list[Job]()
        self.scheduler = Scheduler(self.run, cost, self.clock, bounds, runners)

    def run(self, batch: Sequence[Job]) -> list[Any]:
        for job in batch:
            assert not job.future.cancelled()
            assert job.deadline is None or job.deadline > self.clock.now
            job.runs += 1
        longest = max(job.length for job in batch)
        assert len(batch) <= self.bounds.max_rows
        if len(batch) > 1:
            assert len(batch) * longest <= self.bounds.max_tokens
            attention = sum(job.length**2 for job in batch)
            assert len(batch) * longest**2 <= self.bounds.max_waste * attention * (1 + 1e-9)
        if any(job.spoilt for job in batch):
            raise ValueError("spoilt")
        return [job.length for job in batch]

    def submit(self, length: int, timeout: float | None, spoilt: bool) -> None:
        now, patience = self.clock.now, self.bounds.patience
        deadline = None if timeout is None else now + timeout
        job = Job(length, deadline, now + min(patience, patience if timeout is None else timeout), spoilt)
        before = self.scheduler.waiting
        try:
            job.future = self.scheduler.submit(job, length, job.deadline)
        except (Overloaded, DeadlineExceeded):
            # The refused row takes no place; rows that expired meanwhile may have given up theirs.
            assert self.scheduler.waiting <= before
            return
        job.future.add_done_callback(lambda _future: setattr(job, "completed", job.completed + 1))
        self.jobs.append(job)
        assert self.scheduler.waiting <= self.bounds.capacity

    def cancel(self, index: int) -> None:
        if index < len(self.jobs):
            self.jobs[index].future.cancel()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def step(self) -> None:
        alive = [job for job in self.jobs if job.is_alive(self.clock.now)]
        assert self.scheduler.step() == bool(alive), "an idle runner takes what is there"
        if alive:
            most_urgent = min(alive, key=lambda job: job.due)
            assert most_urgent.future.done(), "the most urgent row is in the next batch"


@settings(deadline=None)
@given(moves, limits, costs, st.integers(1, 3))
def test_every_row_is_completed_exactly_once_and_nothing_is_left_behind(
    played: list[tuple[Any, ...]], bounds: Limits, cost: CostModel, runners: int
) -> None:
    play = Play(bounds, cost, runners)
    for name, *arguments in played:
        getattr(play, name)(*arguments)
    while play.scheduler.step():
        pass
    for job in play.jobs:
        assert job.completed == 1
        assert job.runs <= 2  # once in a batch that failed, once alone
        assert job.future.cancelled() or job.future.exception(0) or job.future.result(0) == job.length
    assert play.scheduler.waiting == 0
    assert play.scheduler.predicted_wait() == 0


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), limits, costs, st.integers(1, 3))
def test_without_deadlines_the_oldest_row_is_in_the_next_batch(
    lengths: list[int], bounds: Limits, cost: CostModel, runners: int
) -> None:
    play = Play(bounds, cost, runners)
    for length in lengths:
        play.submit(length, None, spoilt=False)
        play.advance(0.01)
    while waiting := [job for job in play.jobs if not job.future.done()]:
        play.scheduler.step()
        assert waiting[0].future.done()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 200), st.floats(0.1, 1e5)), min_size=1, max_size=30), costs)
def test_predicted_wait_never_goes_below_nothing_and_grows_with_every_row(
    rows: list[tuple[int, float]], cost: CostModel
) -> None:
    play = Play(Limits(capacity=1000), cost, 1)
    for length, timeout in rows:
        before = play.scheduler.predicted_wait()
        play.submit(length, timeout, spoilt=False)
        assert play.scheduler.predicted_wait() >= before
    while play.scheduler.step():
        assert play.scheduler.predicted_wait() >= 0
    assert play.scheduler.predicted_wait() == 0

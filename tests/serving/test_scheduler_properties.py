"""What holds of the scheduler whatever comes: any rows, deadlines, cancellations, limits, policies, costs, failures."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.cost import CostModel
from serving.errors import DeadlineExceeded, Overloaded
from serving.scheduler.limits import Limits, QueuePolicy
from serving.scheduler.runners import Scheduler
from tests.serving.clock import Clock

LEVELS = 3


@dataclass
class Job:
    """A submitted row, and how often it ran and was completed; times are written down again from what was asked."""

    length: int
    arrival: float
    level: int
    group: int
    begin_by: float
    answer_by: float
    demoted_at: float
    spoilt: bool
    future: Future[Any] = field(default_factory=Future)
    runs: int = 0
    completed: int = 0

    def is_alive(self, now: float) -> bool:
        waiting = not self.future.done() and not self.future.running()
        return waiting and self.begin_by > now and self.answer_by > now

    def rank(self, now: float) -> tuple[int, bool]:
        return self.level, self.demoted_at <= now


rows = st.tuples(
    st.just("submit"),
    # Many of like length, which can run together.
    st.sampled_from([10, 10, 11, 40]) | st.integers(1, 200),
    st.none() | st.floats(0.1, 40),
    st.sampled_from([False, False, False, True]),
    st.integers(0, LEVELS + 1),
    st.none() | st.floats(0.1, 10),
    st.integers(0, 2),
)
moves = st.lists(
    rows
    | rows
    | st.tuples(st.just("advance"), st.floats(0, 4))
    | st.tuples(st.just("cancel"), st.integers(0, 60))
    | st.tuples(st.just("step")),
    min_size=1,
    max_size=60,
)
plain: dict[str, st.SearchStrategy[Any]] = {
    "capacity": st.integers(1, 30),
    "max_rows": st.integers(1, 8),
    "max_tokens": st.integers(50, 800),
    "max_waste": st.floats(1, 3),
}
limits = st.builds(Limits, **plain)
policies = st.builds(
    QueuePolicy,
    timeout=st.none() | st.floats(0.1, 6),
    override=st.booleans(),
    reject=st.booleans(),
    capacity=st.none() | st.integers(1, 8),
)
configured = st.builds(
    Limits,
    **plain,
    across=st.booleans(),
    preferred=st.lists(st.integers(1, 8), max_size=3).map(tuple),
    delay=st.just(0.0) | st.floats(0, 5),
    levels=st.just(LEVELS),
    level=st.integers(1, LEVELS),
    policy=policies,
    policies=st.dictionaries(st.integers(1, LEVELS), policies, max_size=2),
)
costs = st.builds(CostModel, base=st.floats(0, 0.5), token=st.floats(0, 1e-3), square=st.floats(0, 1e-5))


class Play:
    """Plays moves on a scheduler and checks every batch at the moment it runs; each run takes ``seconds``."""

    def __init__(self, bounds: Limits, cost: CostModel, runners: int, seconds: float = 0.0) -> None:
        self.bounds, self.cost, self.runners, self.seconds = bounds, cost, runners, seconds
        self.clock, self.jobs, self.closed = Clock(), list[Job](), False
        self.scheduler = Scheduler(self.run, cost, self.clock, bounds, runners)
        # What a batch did wrong: the scheduler takes an exception of the run for that of its rows.
        self.faults: list[AssertionError] = []

    @property
    def alive(self) -> list[Job]:
        return [job for job in self.jobs if job.is_alive(self.clock.now)]

    def run(self, batch: Sequence[Job]) -> list[Any]:
        try:
            self.check(batch)
        except AssertionError as fault:
            self.faults.append(fault)
        self.clock.advance(self.seconds)
        if any(job.spoilt for job in batch):
            raise ValueError("spoilt")
        return [job.length for job in batch]

    def check(self, batch: Sequence[Job]) -> None:
        again = any(job.runs for job in batch)
        for job in batch:
            assert job.future.running()
            assert job.answer_by > self.clock.now
            assert again or job.begin_by > self.clock.now
            job.runs += 1
        if again:
            assert len(batch) == 1, "what failed together runs alone"
        else:
            self.check_sizes(batch)
            self.check_order(batch)

    def check_sizes(self, batch: Sequence[Job]) -> None:
        rows, longest = len(batch), max(job.length for job in batch)
        assert rows <= self.bounds.max_rows
        if rows > 1:
            assert rows * longest <= self.bounds.max_tokens
            attention = sum(job.length**2 for job in batch)
            assert rows * longest**2 <= self.bounds.max_waste * attention * (1 + 1e-9)
        preferred = [size for size in self.bounds.preferred if size <= self.bounds.max_rows]
        assert rows in preferred or rows < min(preferred, default=inf)

    def check_order(self, batch: Sequence[Job]) -> None:
        now = self.clock.now
        ranks = [job.rank(now) for job in batch]
        waiting = self.alive
        assert all(job.rank(now) >= min(ranks) for job in waiting), "a higher level before a lower one"
        if not self.bounds.across:
            assert len({job.group for job in batch}) == 1
            waiting = [job for job in waiting if job.group == batch[0].group]
        assert all(job.rank(now) >= max(ranks) for job in waiting), "no lower level in the place of a higher one"

    def submit(
        self,
        length: int,
        timeout: float | None = None,
        spoilt: bool = False,
        priority: int = 0,
        wait: float | None = None,
        group: int = 0,
    ) -> None:
        now, bounds = self.clock.now, self.bounds
        deadline = None if timeout is None else now + timeout
        level = priority if 1 <= priority <= bounds.levels else bounds.level
        policy = bounds.policies.get(level, bounds.policy)
        asked = wait if wait is not None and policy.override else inf
        patience = min(asked, inf if policy.timeout is None else policy.timeout)
        job = Job(
            length,
            now,
            level,
            group,
            begin_by=now + patience if policy.reject else inf,
            answer_by=inf if deadline is None else deadline,
            demoted_at=inf if policy.reject else now + patience,
            spoilt=spoilt,
        )
        before = self.alive
        beside = [other for other in before if other.level == level]
        full = len(before) >= bounds.capacity or len(beside) >= (policy.capacity or inf)
        ahead = sum(self.cost(1, other.length) for other in before if other.level <= level) / self.runners
        try:
            job.future = self.scheduler.submit(job, length, deadline, priority=priority, wait=wait, group=group)
        except Overloaded:
            assert full or now + ahead + 1e-6 > min(job.begin_by, job.answer_by - self.cost(1, length))
            assert self.scheduler.waiting == len(before), "the refused row takes no place"
            return
        assert not full
        job.future.add_done_callback(lambda _future: setattr(job, "completed", job.completed + 1))
        self.jobs.append(job)

    def cancel(self, index: int) -> None:
        if index < len(self.jobs):
            self.jobs[index].future.cancel()

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def is_held_back(self, job: Job) -> bool:
        end = job.arrival + self.bounds.delay
        return self.clock.now < end < min(job.begin_by, job.answer_by - self.cost(1, job.length))

    def step(self) -> None:
        now, alive = self.clock.now, self.alive
        sizes = [size for size in self.bounds.preferred if size <= self.bounds.max_rows] or [self.bounds.max_rows]
        held = not self.closed and len(alive) < min(sizes) and all(map(self.is_held_back, alive))
        assert self.scheduler.step() == (bool(alive) and not held), "an idle runner takes what is not held back"
        assert self.faults == []
        if alive and not held:
            due = {id(job): min(job.begin_by, job.answer_by, job.arrival + self.bounds.patience) for job in alive}
            most_urgent = min(alive, key=lambda job: (job.rank(now), due[id(job)]))
            assert most_urgent.future.done(), "the most urgent row is in the next batch"

    def close(self) -> None:
        self.scheduler.close()
        self.closed = True
        while self.alive:
            self.step()
        assert not self.scheduler.step(), "what is left are rows that nobody waits for"


@settings(deadline=None)
@given(moves, limits, costs, st.integers(1, 3))
def test_every_row_is_completed_exactly_once_and_nothing_is_left_behind(
    played: list[tuple[Any, ...]], bounds: Limits, cost: CostModel, runners: int
) -> None:
    check_play(Play(bounds, cost, runners), played)


@settings(deadline=None, max_examples=400)
@given(moves, configured, costs, st.integers(1, 3), st.sampled_from([0.0, 0.0, 0.5, 5.0]))
def test_the_same_holds_with_levels_policies_groups_delays_and_slow_runs(
    played: list[tuple[Any, ...]], bounds: Limits, cost: CostModel, runners: int, seconds: float
) -> None:
    check_play(Play(bounds, cost, runners, seconds), played)


def check_play(play: Play, played: list[tuple[Any, ...]]) -> None:
    for name, *arguments in played:
        getattr(play, name)(*arguments)
    play.close()
    for job in play.jobs:
        assert job.completed == 1
        assert job.runs <= 2  # once in a batch that failed, once alone
        if job.future.cancelled():
            assert job.runs == 0
        elif job.future.exception(0):
            assert job.spoilt or isinstance(job.future.exception(0), DeadlineExceeded)
        else:
            assert job.future.result(0) == job.length
    assert play.scheduler.waiting == 0
    assert play.scheduler.predicted_wait() == 0


@settings(deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=40), limits, costs, st.integers(1, 3))
def test_without_deadlines_the_oldest_row_is_in_the_next_batch(
    lengths: list[int], bounds: Limits, cost: CostModel, runners: int
) -> None:
    play = Play(bounds, cost, runners)
    for length in lengths:
        play.submit(length)
        play.advance(0.01)
    while waiting := [job for job in play.jobs if not job.future.done()]:
        play.step()
        assert waiting[0].future.done()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 200), st.floats(0.1, 1e5)), min_size=1, max_size=30), costs)
def test_predicted_wait_never_goes_below_nothing_and_grows_with_every_row(
    rows: list[tuple[int, float]], cost: CostModel
) -> None:
    play = Play(Limits(capacity=1000), cost, 1)
    for length, timeout in rows:
        before = play.scheduler.predicted_wait()
        play.submit(length, timeout)
        assert play.scheduler.predicted_wait() >= before
    while play.scheduler.step():
        assert play.scheduler.predicted_wait() >= 0
    assert play.scheduler.predicted_wait() == 0

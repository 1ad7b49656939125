"""One loaded bundle: check, encode, schedule, run, decode."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from math import inf

from serving import cache, cost, graphs, known_cost, proof
from serving.backends import Backend
from serving.bundle import Bundle
from serving.cache import AnswerCache
from serving.call import Call
from serving.columns import Schema
from serving.cost import CostModel
from serving.errors import DownstreamError
from serving.flights import Flights, identity
from serving.job import Job, share
from serving.known_cost import KnownCost
from serving.model import Model
from serving.scheduler.limits import Limits
from serving.scheduler.runners import Batch, Scheduler
from serving.settings import Settings, share_of_cores
from serving.statistics import Statistics
from serving.tasks import Task
from serving.tensors import Row, Tensors

# Characters of a row beyond which it is encoded off the event loop.
LONG_TEXT = 8192
# Threads that wait for graphs of another server, where no core of this one is used.
REMOTE_RUNNERS = 16
UNLIMITED = Limits()


class Engine:
    """Answers rows of one model version. ``load`` gives one that has proved itself; ``close`` lets it finish."""

    def __init__(
        self,
        bundle: Bundle,
        task: Task,
        backend: Backend,
        settings: Settings,
        observe: Callable[[Batch], None] = lambda batch: None,
        limits: Limits = UNLIMITED,
        cache_bytes: int = 0,
    ) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.model = Model(manifest.name, task, backend, manifest.max_batch_size)
        self.statistics = Statistics()
        self.cost = cost.UNMEASURED
        self.known_cost: KnownCost | None = None
        self.cache = AnswerCache(cache_bytes) if cache_bytes else None
        self.flights = Flights(self._fly, share) if settings.coalesce else None
        self._clock = time.monotonic
        self._users, self._retired = 0, False
        self._unused = threading.Condition()
        self.limits = replace(
            limits,
            capacity=settings.capacity,
            # Served is what was verified: where batch mates change an answer, a row runs alone.
            max_rows=max(1, manifest.max_batch_size) if manifest.batch_invariant else 1,
            max_tokens=settings.max_batch_tokens,
            max_waste=settings.max_waste,
            stretch=settings.stretch,
            gain=settings.batch_gain,
        )
        cores = REMOTE_RUNNERS if settings.triton_graphs else share_of_cores(settings.workers)
        self.runners = settings.runners or cores
        self._observe = observe
        self._scheduler = Scheduler(
            self._run,
            lambda rows, length: self.cost(rows, length),
            self._clock,
            self.limits,
            self.runners,
            self._ran,
        )

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        settings: Settings,
        observe: Callable[[Batch], None] = lambda batch: None,
        limits: Limits = UNLIMITED,
        cache_bytes: int = 0,
        prepare: Callable[[Model], None] = lambda model: None,
        admitted: CostModel | None = None,
    ) -> Engine:
        """Open task and graphs, replay the golden rows, ``prepare``, measure what runs cost, start the runners.

        ``admitted`` is what runs cost as another process of this machine found when it proved the same files: enough
        then is that the example is answered.

        Raises BundleError when the model does not reproduce its training-time answers, NotReady while a remote server
        that runs its graphs is away.
        """
        task = bundle.open_task()
        backend = graphs.opened(bundle, settings)
        engine = cls(bundle, task, backend, settings, observe, limits, cache_bytes)
        try:
            if admitted:
                proof.answer_example(engine.model)
            else:
                proof.replay_golden(engine.model, bundle)
            prepare(engine.model)
            engine.known_cost = (
                KnownCost(admitted, "told by the worker that leads")
                if admitted
                else known_cost.of(engine.model, bundle, settings, engine.runners, engine.limits.max_rows)
            )
            engine.cost = engine.known_cost.model
        except Exception:
            backend.close()
            raise
        engine._scheduler.start()
        return engine

    @property
    def task(self) -> Task:
        """What the model does."""
        return self.model.task

    @property
    def schema(self) -> Schema:
        """What it takes and gives on the wire."""
        return self.model.schema

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return self._scheduler.waiting

    def predicted_wait(self) -> float:
        """Seconds until a row that came now would run."""
        return self._scheduler.predicted_wait()

    @property
    def shared_rows(self) -> int:
        """How many rows were answered by the run of an equal one."""
        return self.flights.shared if self.flights else 0

    def submit(self, row: Row, call: Call | None = None) -> Future[Row]:
        """Queue one row.

        Raises InvalidInput, Overloaded, DeadlineExceeded or NotReady; the future raises DeadlineExceeded, or what the
        graph raised.
        """
        received, call = time.monotonic_ns(), call or Call()
        deadline = self._deadline(call)
        return self._queue(self.model.encode(self.model.check(row)), call, deadline, received)

    async def answer(self, row: Row, call: Call | None = None) -> Row:
        """submit, awaited, where the cache has no answer; a caller that is cancelled takes its row out of the queue."""
        received, call = time.monotonic_ns(), call or Call()
        deadline = self._deadline(call)
        encoded = await self._encoded(self.model.check(row))
        if self.cache is None or not self.cache.worth.ask():
            return await asyncio.wrap_future(self._queue(encoded, call, deadline, received))
        begun = time.monotonic_ns()
        key = cache.key(identity(encoded, self.model.graph.inputs))
        kept = self.cache.get(key)
        spent = time.monotonic_ns() - begun
        call.looked_up += spent
        self.cache.worth.count(spent * 1e-9, 0.0 if kept is None else self.cost(1, self.model.length(encoded)))
        if kept is None:
            kept = await asyncio.wrap_future(self._queue(encoded, call, deadline, received))
            self.cache.put(key, kept)
        return kept

    async def _encoded(self, checked: Row) -> Tensors:
        if sum(len(value) for value in checked.values() if isinstance(value, str)) > LONG_TEXT:
            # Tokenizing it takes milliseconds, which all other callers would wait on the event loop. Queued only back
            # here: a caller that is cancelled meanwhile must leave no row behind.
            return await asyncio.to_thread(self.model.encode, checked)
        return self.model.encode(checked)

    async def answer_all(self, rows: Sequence[Row], call: Call) -> list[Row | BaseException]:
        """Each row's answer, or the exception that it raised, in order; counted in the statistics as one request."""
        begun = time.monotonic_ns()
        answers: list[Row | BaseException]
        if len(rows) == 1:
            # As the rest does, without a task of its own.
            try:
                answers = [await self.answer(rows[0], call)]
            except Exception as error:
                answers = [error]
        else:
            answers = await asyncio.gather(*(self.answer(row, call) for row in rows), return_exceptions=True)
        spent = time.monotonic_ns() - begun
        if any(isinstance(answer, BaseException) for answer in answers):
            self.statistics.failed(spent)
        else:
            self.statistics.succeeded(call, spent, cached=call.looked_up > 0)
        return answers

    def submit_all(self, rows: Sequence[tuple[Row, Call]]) -> list[Future[Row] | Exception]:
        """Queue rows of many requests at once, so that those of like length can meet; what ``submit`` would raise is
        in its row's place.
        """
        received = time.monotonic_ns()
        encoded: list[Tensors | Exception] = []
        for row, _ in rows:
            try:
                encoded.append(self.model.encode(self.model.check(row)))
            except DownstreamError as error:
                encoded.append(error)
        queued: list[Future[Row] | Exception] = []
        with self._scheduler.held():
            for arrays, (_, call) in zip(encoded, rows, strict=True):
                try:
                    if isinstance(arrays, Exception):
                        raise arrays
                    queued.append(self._queue(arrays, call, self._deadline(call), received))
                except DownstreamError as error:
                    queued.append(error)
        return queued

    def _deadline(self, call: Call) -> float | None:
        return None if call.timeout is None else self._clock() + call.timeout

    def _queue(self, encoded: Tensors, call: Call, deadline: float | None, received: int) -> Future[Row]:
        job = Job(encoded, call, deadline, received, time.monotonic_ns())
        level = self.limits.level_of(call.priority)
        # A row that may not be queued as long as it takes waits for no run but its own.
        if self.flights is None or self.limits.policy_of(level).waiting_time(call.wait) is not None:
            return self._fly(job)
        key = level, identity(encoded, self.model.graph.inputs)
        return self.flights.board(key, job, inf if deadline is None else deadline)

    def _fly(self, job: Job, answer: Future[Row] | None = None) -> Future[Row]:
        call, length = job.call, self.model.length(job.encoded)
        return self._scheduler.submit(
            job, length, job.deadline, priority=call.priority, wait=call.wait, group=call, future=answer
        )

    def _run(self, jobs: Sequence[Job]) -> list[Row]:
        deadlines = [job.deadline for job in jobs]
        last = None if None in deadlines else max(filter(None, deadlines)) - self._clock()
        answers, stages = self.model.run([job.encoded for job in jobs], last)
        for job in jobs:
            job.ran(stages)
        self.statistics.run(
            len(jobs),
            compute_input=stages.stacked - stages.begun,
            compute_infer=stages.inferred - stages.stacked,
            compute_output=stages.decoded - stages.inferred,
        )
        return answers

    def _ran(self, batch: Batch) -> None:
        if self.known_cost and self.known_cost.learn(batch):
            self.cost = self.known_cost.model
        self._observe(batch)

    def enter(self) -> bool:
        """Hold the engine open for one request, until ``leave``; false where it was retired already."""
        with self._unused:
            self._users += not self._retired
            return not self._retired

    def leave(self) -> None:
        """The request that entered has its answers."""
        with self._unused:
            self._users -= 1
            self._unused.notify_all()

    def close(self) -> None:
        """Refuse new requests, answer those that entered and the rows in flight, release the graphs."""
        with self._unused:
            self._retired = True
            self._unused.wait_for(lambda: not self._users)
        self._scheduler.close()
        self.model.backend.close()

"""One loaded bundle: check, encode, schedule, run, decode."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from serving import cache, cost, proof
from serving.backends import Backend, open_backend, triton
from serving.bundle import Bundle
from serving.cache import AnswerCache
from serving.call import Call, Timing
from serving.columns import Schema
from serving.errors import DownstreamError
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

# Rows, length and seconds of runs.
Runs = Sequence[tuple[int, int, float]]


@dataclass(frozen=True)
class Job:
    """One queued row: its arrays, its request, and when it was received and queued, in monotonic nanoseconds."""

    encoded: Tensors
    call: Call
    deadline: float | None
    received: int
    queued: int


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
        self.runs: Runs = ()
        self._cache = AnswerCache(cache_bytes) if cache_bytes else None
        self._clock = time.monotonic
        self._users, self._retired = 0, False
        self._unused = threading.Condition()
        self._scheduler = Scheduler(
            self._run,
            lambda rows, length: self.cost(rows, length),
            self._clock,
            replace(
                limits,
                capacity=settings.capacity,
                # Served is what was verified: where batch mates change an answer, a row runs alone.
                max_rows=max(1, manifest.max_batch_size) if manifest.batch_invariant else 1,
                max_tokens=settings.max_batch_tokens,
                max_waste=settings.max_waste,
            ),
            settings.runners or (REMOTE_RUNNERS if settings.triton_graphs else share_of_cores(settings.workers)),
            observe,
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
        runs: Runs = (),
    ) -> Engine:
        """Open task and graphs, replay the golden rows, ``prepare``, measure what runs cost, start the runners.

        ``runs`` is what another process of this machine measured when it proved the same files: enough then is that
        the example is answered.

        Raises BundleError when the model does not reproduce its training-time answers, NotReady while a remote server
        that runs its graphs is away.
        """
        task = bundle.open_task()
        backend = _opened(bundle, settings)
        engine = cls(bundle, task, backend, settings, observe, limits, cache_bytes)
        try:
            if runs:
                proof.answer_example(engine.model)
            else:
                proof.replay_golden(engine.model, bundle)
            prepare(engine.model)
            engine.runs = runs or proof.measure(engine.model)
            engine.cost = cost.fit(engine.runs)
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
        checked = self.model.check(row)
        if self._cache is None:
            return await self._answer(checked, call, deadline, received)
        key = cache.key(checked)
        kept = self._cache.get(key)
        call.looked_up += time.monotonic_ns() - received
        if kept is None:
            kept = await self._answer(checked, call, deadline, received)
            self._cache.put(key, kept)
        return kept

    async def _answer(self, checked: Row, call: Call, deadline: float | None, received: int) -> Row:
        if sum(len(value) for value in checked.values() if isinstance(value, str)) > LONG_TEXT:
            # Tokenizing it takes milliseconds, which all other callers would wait on the event loop. Queued only back
            # here: a caller that is cancelled meanwhile must leave no row behind.
            encoded = await asyncio.to_thread(self.model.encode, checked)
        else:
            encoded = self.model.encode(checked)
        return await asyncio.wrap_future(self._queue(encoded, call, deadline, received))

    async def answer_all(self, rows: Sequence[Row], call: Call) -> list[Row | BaseException]:
        """Each row's answer, or the exception that it raised, in order; counted in the statistics as one request."""
        begun = time.monotonic_ns()
        answers = await asyncio.gather(*(self.answer(row, call) for row in rows), return_exceptions=True)
        spent = time.monotonic_ns() - begun
        if any(isinstance(answer, BaseException) for answer in answers):
            self.statistics.failed(spent)
        else:
            self.statistics.succeeded(call, spent, cached=self._cache is not None)
        return list(answers)

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
        return self._scheduler.submit(
            job, self.model.length(encoded), deadline, priority=call.priority, wait=call.wait, group=call
        )

    def _run(self, jobs: Sequence[Job]) -> list[Row]:
        deadlines = [job.deadline for job in jobs]
        last = None if None in deadlines else max(filter(None, deadlines)) - self._clock()
        answers, stages = self.model.run([job.encoded for job in jobs], last)
        for job in jobs:
            job.call.timings.append(Timing(job.received, job.queued, **vars(stages)))
        self.statistics.run(
            len(jobs),
            compute_input=stages.stacked - stages.begun,
            compute_infer=stages.inferred - stages.stacked,
            compute_output=stages.decoded - stages.inferred,
        )
        return answers

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


def _opened(bundle: Bundle, settings: Settings) -> Backend:
    """The backend of a bundle's graphs: that of the manifest, or the server that runs them elsewhere."""
    if not settings.triton_graphs:
        return open_backend(bundle.manifest.backend, bundle.graph_files())
    manifest = bundle.manifest
    remote = triton.parse_address(settings.triton_graphs, manifest.name, manifest.version)
    return triton.connected(dict.fromkeys(manifest.graphs, remote))

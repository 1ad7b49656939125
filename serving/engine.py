"""One loaded bundle: check, encode, schedule, run, decode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from serving import cost
from serving.backends import Backend, open_backend
from serving.bundle import Bundle, GoldenRow, differences, plain
from serving.errors import BundleError
from serving.scheduler import Batch, Limits, Scheduler
from serving.settings import Settings, read_available_cores
from serving.tasks import Task
from serving.tensors import NUMPY_TYPES, Array, Row, Tensors, check, sizes, stack, unstack

# Rows and tokens per row of the runs that the cost model is fitted to.
MEASURED = ((1, 8), (1, 32), (1, 96), (4, 8), (4, 32), (8, 16))
REPEATS = 3
# Characters of a row beyond which it is encoded off the event loop.
LONG_TEXT = 8192


class Engine:
    """Answers rows of one model version. ``load`` gives one that has proved itself; ``close`` lets it finish."""

    def __init__(
        self,
        bundle: Bundle,
        task: Task,
        backend: Backend,
        settings: Settings,
        observe: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        (self._graph,) = task.graphs.items()
        self.bundle, self.task, self._backend = bundle, task, backend
        self.cost = cost.UNMEASURED
        self._clock = time.monotonic
        self._scheduler = Scheduler(
            self._run,
            lambda rows, length: self.cost(rows, length),
            self._clock,
            Limits(
                capacity=settings.capacity,
                # Served is what was verified: where batch mates change an answer, a row runs alone.
                max_rows=max(1, bundle.manifest.max_batch_size) if bundle.manifest.batch_invariant else 1,
                max_tokens=settings.max_batch_tokens,
                max_waste=settings.max_waste,
            ),
            settings.runners or read_available_cores(),
            observe,
        )

    @classmethod
    def load(cls, bundle: Bundle, settings: Settings, observe: Callable[[Batch], None] = lambda batch: None) -> Engine:
        """Open task and graphs, replay the golden rows, measure what runs cost, start the runners.

        Raises BundleError when the model does not reproduce its training-time answers.
        """
        task = bundle.open_task()
        backend = open_backend(bundle.manifest.backend, bundle.graph_files())
        engine = cls(bundle, task, backend, settings, observe)
        try:
            engine.replay_golden()
            engine.cost = cost.fit(engine._measure())
        except Exception:
            backend.close()
            raise
        engine._scheduler.start()
        return engine

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return self._scheduler.waiting

    def predicted_wait(self) -> float:
        """Seconds until a row that came now would run."""
        return self._scheduler.predicted_wait()

    def submit(self, row: Row, timeout: float | None = None) -> Future[Row]:
        """Queue one row; ``timeout`` is in seconds from now.

        Raises InvalidInput, Overloaded, DeadlineExceeded or NotReady; the future raises DeadlineExceeded, or what the
        graph raised.
        """
        deadline = self._deadline(timeout)
        return self._queue(self._encode(row), deadline)

    async def answer(self, row: Row, timeout: float | None = None) -> Row:
        """submit, awaited; a caller that is cancelled takes its row out of the queue."""
        deadline = self._deadline(timeout)
        if sum(len(value) for value in row.values() if isinstance(value, str | bytes)) > LONG_TEXT:
            # Tokenizing it takes milliseconds, which all other callers would wait on the event loop. Queued only back
            # here: a caller that is cancelled meanwhile must leave no row behind.
            encoded = await asyncio.to_thread(self._encode, row)
        else:
            encoded = self._encode(row)
        return await asyncio.wrap_future(self._queue(encoded, deadline))

    def _deadline(self, timeout: float | None) -> float | None:
        return None if timeout is None else self._clock() + timeout

    def _encode(self, row: Row) -> Tensors:
        return self.task.encode(check(row, self.task.inputs))

    def _queue(self, encoded: Tensors, deadline: float | None) -> Future[Row]:
        return self._scheduler.submit(encoded, self._length(encoded), deadline)

    def close(self) -> None:
        """Refuse new rows, answer those in flight, release the graphs."""
        self._scheduler.close()
        self._backend.close()

    def replay_golden(self) -> None:
        """Answer every golden row, one by one, and compare. Raises BundleError that shows the first difference."""
        golden = self.bundle.golden()
        if not golden:
            raise BundleError(f"{self.bundle.folder}: has no golden rows, so nothing proves it; export it again")
        wrong = []
        for index, expected in enumerate(golden):
            (answer,) = self._run([self._encode(expected.row)])
            lines = differences(answer, expected.answer, self.bundle.manifest.tolerance)
            lines += self._decoded_differences(expected)
            if lines:
                wrong.append(f"golden row {index} ({str(expected.row)[:80]}): {'; '.join(lines)}")
        if wrong:
            raise BundleError(
                f"{self.bundle.folder}: {len(wrong)} of {len(golden)} golden rows are not reproduced; first: {wrong[0]}"
            )

    def _decoded_differences(self, expected: GoldenRow) -> list[str]:
        """What decoding the golden graph outputs gives that is not the golden answer: moved labels, above all."""
        _, graph = self._graph
        outputs = {f.name: np.asarray(expected.answer[f.name], NUMPY_TYPES[f.dtype]) for f in graph.outputs}
        decoded = plain(self.task.decode(self._encode(expected.row), outputs))
        exact = [name for name in decoded if name not in self.bundle.manifest.tolerance]
        return [
            f"{name} is {decoded[name]!r} instead of {expected.answer[name]!r}"
            for name in exact
            if not _same(decoded[name], expected.answer[name])
        ]

    def _run(self, rows: Sequence[Tensors]) -> list[Row]:
        name, graph = self._graph
        outputs = self._backend.run(name, stack(rows, graph.inputs))
        axes = [sizes(row, graph.inputs) for row in rows]
        split = unstack(outputs, graph.outputs, axes)
        return [self.task.decode(encoded, row) for encoded, row in zip(rows, split, strict=True)]

    def _length(self, encoded: Tensors) -> int:
        _, graph = self._graph
        return max(sizes(encoded, graph.inputs).values(), default=1)

    def _measure(self) -> list[tuple[int, int, float]]:
        """Seconds of a few runs of known size; the best of some repeats, since noise only ever adds."""
        example = self._encode(self.task.example)
        runs: list[tuple[int, int, float]] = []
        longest = min(self.task.max_sizes.values(), default=MEASURED[0][1])
        for rows, wanted in MEASURED:
            length = min(wanted, longest)
            resized = {name: _resized(array, length) for name, array in example.items()}
            batch = [resized] * rows
            runs.append((rows, length, min(self._timed(batch) for _ in range(REPEATS))))
        return runs

    def _timed(self, batch: Sequence[Tensors]) -> float:
        begun = time.perf_counter()
        self._run(batch)
        return time.perf_counter() - begun


def _same(found: object, golden: object) -> bool:
    """Equal, up to what FP32 arithmetic of another machine may differ in."""
    if isinstance(golden, str):
        return found == golden
    left, right = np.asarray(found, np.float64), np.asarray(golden, np.float64)
    return left.shape == right.shape and bool(np.allclose(left, right, rtol=1e-4, atol=1e-5))


def _resized(array: Array, length: int) -> Array:
    return np.resize(array, length) if array.ndim == 1 else array

"""What a loaded model must show before it serves: its golden answers, and what a run of it costs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from serving.bundle import Bundle, GoldenRow, differences, plain
from serving.errors import BundleError
from serving.model import Model
from serving.tensors import NUMPY_TYPES, Array, Tensors

# Rows and tokens per row of the runs that the cost model is fitted to.
MEASURED = ((1, 8), (1, 32), (1, 96), (4, 8), (4, 32), (8, 16))
REPEATS = 3


def replay_golden(model: Model, bundle: Bundle) -> None:
    """Answer every golden row, one by one, and compare. Raises BundleError that shows the first difference."""
    golden = bundle.golden()
    if not golden:
        raise BundleError(f"{bundle.folder}: has no golden rows, so nothing proves it; export it again")
    wrong = []
    for index, expected in enumerate(golden):
        encoded = model.encode(model.check(expected.row))
        (answer,), _ = model.run([encoded])
        lines = differences(answer, expected.answer, bundle.manifest.tolerance)
        lines += _decoded_differences(model, bundle, expected, encoded)
        if lines:
            wrong.append(f"golden row {index} ({str(expected.row)[:80]}): {'; '.join(lines)}")
    if wrong:
        raise BundleError(
            f"{bundle.folder}: {len(wrong)} of {len(golden)} golden rows are not reproduced; first: {wrong[0]}"
        )


def _decoded_differences(model: Model, bundle: Bundle, expected: GoldenRow, encoded: Tensors) -> list[str]:
    """What decoding the golden graph outputs gives that is not the golden answer: moved labels, above all."""
    outputs = {f.name: np.asarray(expected.answer[f.name], NUMPY_TYPES[f.dtype]) for f in model.graph.outputs}
    decoded = plain(model.task.decode(encoded, outputs))
    exact = [name for name in decoded if name not in bundle.manifest.tolerance]
    return [
        f"{name} is {decoded[name]!r} instead of {expected.answer[name]!r}"
        for name in exact
        if not _same(decoded[name], expected.answer[name])
    ]


def answer_example(model: Model) -> None:
    """Run the task's example, so that graphs which open and cannot be run here are seen."""
    model.run([model.encode(model.check(model.task.example))])


def measure(model: Model) -> list[tuple[int, int, float]]:
    """Rows, length and seconds of a few runs; the best of some repeats, since noise only ever adds."""
    example = model.encode(model.check(model.task.example))
    runs: list[tuple[int, int, float]] = []
    longest = min(model.task.max_sizes.values(), default=MEASURED[0][1])
    most = max(1, model.schema.max_batch_size)
    for rows, length in dict.fromkeys((min(rows, most), min(length, longest)) for rows, length in MEASURED):
        resized = {name: _resized(array, length) for name, array in example.items()}
        runs.append((rows, length, min(_timed(model, [resized] * rows) for _ in range(REPEATS))))
    return runs


def _timed(model: Model, batch: Sequence[Tensors]) -> float:
    begun = time.perf_counter()
    model.run(batch)
    return time.perf_counter() - begun


def _same(found: object, golden: object) -> bool:
    """Equal, up to what FP32 arithmetic of another machine may differ in."""
    if isinstance(golden, str):
        return found == golden
    left, right = np.asarray(found, np.float64), np.asarray(golden, np.float64)
    return left.shape == right.shape and bool(np.allclose(left, right, rtol=1e-4, atol=1e-5))


def _resized(array: Array, length: int) -> Array:
    return np.resize(array, length) if array.ndim == 1 else array

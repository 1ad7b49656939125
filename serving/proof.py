"""What a loaded model must show before it serves: its golden answers, and what a run of it costs."""

from __future__ import annotations

import time

import numpy as np

from serving.bundle import Bundle, GoldenRow, differences, plain
from serving.cost import CostModel
from serving.errors import BundleError
from serving.model import Model
from serving.tensors import NUMPY_TYPES, Array, Tensors

# Rows and tokens per row of the runs that the cost model is fitted to; the first ones are run whatever time they take.
MEASURED = ((1, 8), (1, 32), (1, 96), (4, 8), (4, 32), (8, 16))
NEEDED = 3
REPEATS = 5
# A cost from another start is believed where it is within this factor of a run made now.
AGREES = 3.0


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


def measure(model: Model, seconds: float, most_rows: int) -> list[tuple[int, int, float]]:
    """Rows, length and seconds of a few runs, in about ``seconds``; batches have at most ``most_rows`` rows.

    The best of some repeats, since noise only ever adds.
    """
    ends = time.perf_counter() + seconds
    best: dict[tuple[int, int], float] = {}
    longest = min(model.task.max_sizes.values(), default=MEASURED[0][1])
    shapes = list(dict.fromkeys((min(rows, most_rows), min(length, longest)) for rows, length in MEASURED))
    for number, (rows, length) in enumerate(shapes * REPEATS):
        if number >= NEEDED and time.perf_counter() > ends:
            break
        taken = _timed(model, rows, length)
        best[rows, length] = min(taken, best.get((rows, length), taken))
    return [(*shape, taken) for shape, taken in best.items()]


def agrees(model: Model, cost: CostModel) -> bool:
    """Whether a run takes about what a cost model from elsewhere predicts of it."""
    shape = 1, min(MEASURED[1][1], *model.task.max_sizes.values())
    taken = min(_timed(model, *shape) for _ in range(2))
    return 1 / AGREES < taken / cost(*shape) < AGREES


def _timed(model: Model, rows: int, length: int) -> float:
    """Seconds of one run of the example, cut or repeated to so many tokens."""
    example = model.encode(model.check(model.task.example))
    batch = [{name: _resized(array, length) for name, array in example.items()}] * rows
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

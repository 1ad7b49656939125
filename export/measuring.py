"""The process of a trial: opens a graph as a server would and measures it. ``python -m export.measuring FOLDER NAME``.

Imports what serves and nothing else of this project, above all nothing of torch.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from export.invariance import Invariance, measure_invariance
from export.trial import ANSWERS, MEASURED, ROWS, Graphed, Measured, Order, Speedup
from export.verification import compared_outputs
from serving import cost, proof
from serving.bundle import plain, write_json
from serving.call import Call
from serving.cost import CostModel
from serving.engine import Engine
from serving.errors import DownstreamError
from serving.model import Model
from serving.scoring import bootstrap
from serving.settings import Settings, read_available_cores
from serving.tensors import Array, Row, Tensors

# Rows whose latency is taken; the others run on all cores.
TIMED = 256
# Rows that are timed against the other graph, and how often each; the best time counts, since noise only adds.
PAIRED, REPEATS = 100, 3
# Rows that come at once, for the throughput.
SATURATING = 256
WARM_UP = 0.3
MEMORY = Path("/proc/self/smaps_rollup")


def main(argv: Sequence[str]) -> int:
    """Measure; the exit code. What went wrong is printed."""
    folder, name = Path(argv[0]), argv[1]
    order = Order.read(folder)
    try:
        with (folder / ROWS).open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        answers, measured = measure(folder, order, rows, name)
    except DownstreamError as error:
        print(error)
        return 1
    with (folder / ANSWERS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(plain(answer), ensure_ascii=False) + "\n" for answer in answers)
    write_json(folder / MEASURED, asdict(measured))
    return 0


def measure(folder: Path, order: Order, rows: Sequence[Row], name: str) -> tuple[list[Row], Measured]:
    """The answers of each row alone, and what was measured: latency, batch mates, throughput, memory, speed."""
    begun = time.perf_counter()
    with closing(_engine(folder, order, order.tried)) as engine:
        loaded = time.perf_counter() - begun
        model = engine.model
        encoded = [model.encode(model.check(row)) for row in rows]
        with tqdm(total=len(encoded), desc=name, unit="row", leave=False) as bar:
            answers, milliseconds = _alone(model, encoded[:TIMED], bar)
            answers += _on_all_cores(model, encoded[TIMED:], bar)
        invariance = measure_invariance(model, encoded, answers, compared_outputs(model.task))
        costs = cost.fit(proof.measure(model, WARM_UP, 32 if invariance.held else 1))
        memory = _memory()
        speedup = _compared(folder, order, model, encoded) if order.baseline else None
    throughput = _saturated(folder, order, encoded, invariance, costs)
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return answers, Measured(
        round(float(p50), 3), round(float(p99), 3), round(throughput, 1), memory, round(loaded, 3), invariance, speedup
    )


def _engine(
    folder: Path, order: Order, graphed: Graphed, costs: CostModel = cost.UNMEASURED, *, batch_invariant: bool = False
) -> Engine:
    bundle = order.bundle(folder, graphed, batch_invariant=batch_invariant)
    # Nothing proves it yet, so it is opened as what was admitted before.
    return Engine.load(bundle, Settings(coalesce=False, cache_dir="", capacity=2 * SATURATING), admitted=costs)


def _alone(model: Model, encoded: Sequence[Tensors], bar: Any = None) -> tuple[list[Row], list[float]]:
    """Answers and milliseconds, one row after the other on one thread."""
    answers, milliseconds = [], []
    for row in encoded:
        (answer,), stages = model.run([row])
        answers.append(answer)
        milliseconds.append((stages.decoded - stages.begun) * 1e-6)
        if bar is not None:
            bar.update()
    return answers, milliseconds


def _on_all_cores(model: Model, encoded: Sequence[Tensors], bar: Any) -> list[Row]:
    """Answers of each row alone, which need not be timed."""
    answers = []
    with ThreadPoolExecutor(read_available_cores()) as pool:
        for (answer,), _ in pool.map(lambda row: model.run([row]), encoded):
            answers.append(answer)
            bar.update()
    return answers


def _saturated(
    folder: Path, order: Order, encoded: Sequence[Tensors], invariance: Invariance, costs: CostModel
) -> float:
    """Rows a second where they come at once, batched as the scheduler does it; the best of some passes."""
    chosen = random.Random(0).sample(list(encoded), min(SATURATING, len(encoded)))
    with closing(_engine(folder, order, order.tried, costs, batch_invariant=invariance.held)) as engine:
        return len(chosen) / min(_passed(engine, chosen) for _ in range(REPEATS))


def _passed(engine: Engine, rows: Sequence[Tensors]) -> float:
    """Seconds until rows that came at once are answered."""
    begun = time.perf_counter()
    for future in engine.submit_all([(row, Call()) for row in rows]):
        if not isinstance(future, Future):
            raise future
        future.result()
    return time.perf_counter() - begun


def _compared(folder: Path, order: Order, model: Model, encoded: Sequence[Tensors]) -> Speedup:
    """Both graphs in turns on rows of all lengths, one row and one thread at a time."""
    assert order.baseline is not None
    by_length = sorted(encoded, key=model.length)
    picks = np.linspace(0, len(by_length) - 1, min(PAIRED, len(by_length))).round().astype(int)
    with closing(_engine(folder, order, order.baseline)) as engine:
        best = np.full((len(picks), 2), np.inf)
        for _ in range(REPEATS):
            for index, pick in enumerate(picks):
                for side, own in enumerate((engine.model, model)):
                    _, (taken,) = _alone(own, [by_length[pick]])
                    best[index, side] = min(best[index, side], taken)

    def ratio(indices: Array) -> float:
        floats, tried = best[indices].sum(axis=0)
        return float(floats / tried)

    low, high = bootstrap(ratio, len(best))
    return Speedup(*(round(value, 3) for value in (ratio(np.arange(len(best))), low, high)))


def _memory() -> int:
    """Bytes of this process: pages that it shares count in part. 0 where the system does not tell."""
    if not MEMORY.exists():
        return 0
    (line,) = (line for line in MEMORY.read_text().splitlines() if line.startswith("Pss:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

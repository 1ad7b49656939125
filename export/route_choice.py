"""Which route's graph is kept: each is compared with PyTorch over shapes and timed, and the fastest that is right wins.

Timed by the backend that will serve it, one thread, rows of real lengths one at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from export.child import ExportError
from export.graph_version import opset
from export.operators import Operators, count
from export.routes import UNFUSED
from export.sweep import Answered, compare
from serving.backends import Backend, open_backend
from serving.errors import BundleError
from serving.tensors import Graph, Tensors, sizes, stack

BACKEND = "onnxruntime"
# A lead that is smaller is noise, and the route named first stays.
LEAD = 1.02
# A duel takes at least these rounds and seconds; in each, every row is answered once by both.
DUEL_ROWS, DUEL_ROUNDS, DUEL_SECONDS = 16, 4, 2.0

Clock = Callable[[], float]


@dataclass(frozen=True)
class Route:
    """One way to the graph and what came of it; ``reason`` says why it was not used, and is empty where it could be.

    ``p50_ms`` is for one row alone on one thread; ``ratio`` the speed relative to the first route that passed: 1.1 is
    10 % faster. ``difference`` is the largest relative one to PyTorch over all shapes.
    """

    name: str
    path: Path
    reason: str = ""
    difference: float = 0.0
    p50_ms: float = 0.0
    ratio: float = 1.0
    opset: int = 0
    ir: int = 0
    operators: Operators | None = None

    @property
    def passed(self) -> bool:
        """Whether the graph was made and is PyTorch's at every shape."""
        return not self.reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason or f'{self.p50_ms:.2f} ms a row, {self.ratio:.2f} x'}"

    def summary(self) -> dict[str, object]:
        """The figures, for manifests and reports."""
        if self.reason:
            return {"route": self.name, "reason": self.reason}
        counted = {"operators": self.operators.summary()} if self.operators else {}
        figures = {"p50_ms": round(self.p50_ms, 3), "ratio": round(self.ratio, 3), "difference": self.difference}
        return {"route": self.name, **figures, "opset": self.opset, "ir": self.ir, **counted}


@dataclass(frozen=True)
class Choice:
    """All routes; the one to serve in floating point, and the one to quantize, which is never a fused one."""

    routes: tuple[Route, ...]
    to_serve: Route
    to_quantize: Route | None

    def __str__(self) -> str:
        return f"FP32 graph: {self.to_serve.name} of {'; '.join(map(str, self.routes))}"


def choose(
    made: Mapping[str, Path | str],
    answered: Sequence[Answered],
    rows: Sequence[Tensors],
    name: str,
    graph: Graph,
    clock: Clock = time.perf_counter,
) -> Choice:
    """Check and time the graphs of ``routes.finish``; ``rows`` are encoded, ``name`` is the task's for the graph.

    No more than two graphs are in memory at a time. Raises ExportError with the reason of each route where none passes.
    """
    routes = [_checked(route, result, answered, name) for route, result in made.items()]
    passed = [route for route in routes if route.passed]
    if not passed:
        raise ExportError(f"no route gives PyTorch's answers: {'; '.join(map(str, routes))}")
    batches = [stack([row], graph.inputs) for row in _spread(rows, graph)]
    timed = {route.name: route for route in race(passed, name, batches, clock)}
    unfused = [route for route in timed.values() if route.name in UNFUSED]
    return Choice(
        routes=tuple(timed.get(route.name, route) for route in routes),
        to_serve=fastest(list(timed.values())),
        to_quantize=fastest(unfused) if unfused else None,
    )


def race(routes: Sequence[Route], name: str, batches: Sequence[Tensors], clock: Clock) -> list[Route]:
    """The routes with their times, each but the first measured against the first."""
    first = open_backend(BACKEND, {name: routes[0].path})
    if len(routes) == 1:
        # Nothing is decided by it.
        ms, _, _ = duel(first, first, name, batches, clock, least=0)
        return [replace(routes[0], p50_ms=ms)]
    timed: list[Route] = []
    for route in routes[1:]:
        ms, first_ms, ratio = duel(open_backend(BACKEND, {name: route.path}), first, name, batches, clock)
        if not timed:
            timed.append(replace(routes[0], p50_ms=first_ms))
        timed.append(replace(route, p50_ms=ms, ratio=ratio))
    return timed


def fastest(routes: Sequence[Route]) -> Route:
    """The route with the best ratio, where it leads the earlier ones clearly."""
    kept = routes[0]
    for route in routes[1:]:
        if route.ratio > kept.ratio * LEAD:
            kept = route
    return kept


def duel(
    one: Backend,
    other: Backend,
    name: str,
    batches: Sequence[Tensors],
    clock: Clock = time.perf_counter,
    least: float = DUEL_SECONDS,
) -> tuple[float, float, float]:
    """Median milliseconds of each graph, and the speed of the first relative to the other: 2 is twice as fast.

    They answer each batch in turn, so that what else the machine does slows both; who begins alternates. The speed is
    that of the best times of each batch: what else runs only ever adds to a time. It takes ``least`` seconds.
    """
    for backend in (one, other):
        backend.run(name, batches[0])

    def timed(backend: Backend, batch: Tensors) -> float:
        before = clock()
        backend.run(name, batch)
        return clock() - before

    rounds: list[list[tuple[float, float]]] = []
    begun = clock()
    while len(rounds) < DUEL_ROUNDS or clock() - begun < least:
        pairs = []
        for index, batch in enumerate(batches):
            if (index + len(rounds)) % 2:
                second, first = timed(other, batch), timed(one, batch)
            else:
                first, second = timed(one, batch), timed(other, batch)
            pairs.append((first, second))
        rounds.append(pairs)
    # [rounds, batches, 2]
    seconds = np.array(rounds)
    ours, theirs = seconds.min(axis=0).T
    milliseconds = 1000 * np.median(seconds, axis=(0, 1))
    return float(milliseconds[0]), float(milliseconds[1]), float(np.median(theirs / ours))


def _checked(name: str, result: Path | str, answered: Sequence[Answered], graph: str) -> Route:
    if isinstance(result, str):
        return Route(name, Path(), result)
    try:
        swept = compare(answered, open_backend(BACKEND, {graph: result}), graph)
        operators = count(result)
    except (BundleError, ExportError) as error:
        return Route(name, result, str(error))
    model = onnx.load(result, load_external_data=False)
    largest = max(one.difference for one in swept)
    return Route(name, result, difference=largest, opset=opset(model), ir=model.ir_version, operators=operators)


def _spread(rows: Sequence[Tensors], graph: Graph) -> list[Tensors]:
    """Some rows, spread over the lengths."""
    ordered = sorted(rows, key=lambda row: max(sizes(row, graph.inputs).values()))
    picks = np.linspace(0, len(ordered) - 1, min(DUEL_ROWS, len(ordered))).round().astype(int)
    return [ordered[pick] for pick in picks]

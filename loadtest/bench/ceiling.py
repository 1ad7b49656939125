"""The ceiling: tokenize and run in this process, nothing around it, the best of several ways to use the cores."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from loadtest.bench.figures import Figures, Results
from loadtest.bench.processes import CannotRun
from serving import graphs, processor
from serving.backends.onnxruntime import PRECISE
from serving.bundle import open_bundle
from serving.processor import VNNI
from serving.settings import Settings
from serving.tensors import Array, Tensors, stack

LOAD = "in process"


@dataclass(frozen=True)
class Strategy:
    """``callers`` threads, each of whose runs takes ``rows`` rows of like length on ``inside`` threads."""

    callers: int
    inside: int
    rows: int

    @property
    def row(self) -> str:
        """Its row in the tables."""
        how = f"{self.callers} threads" if self.inside == 1 else f"intra-op {self.inside}"
        return f"session: {self.rows} {'row' if self.rows == 1 else 'like rows'} a run, {how}"


def strategies(cores: int) -> list[Strategy]:
    """The ways to use that many cores; the first two run rows alone."""
    alone = [Strategy(cores, 1, 1), *([Strategy(1, cores, 1)] if cores > 1 else [])]
    return alone + [Strategy(cores, 1, rows) for rows in (4, 8, 16, 32)]


def bare(inside: int) -> str:
    """The row of encoding and running one text after another, with so many threads inside a run."""
    return f"bare encode + run, intra-op {inside}"


class Session:
    """The graph of a version directory, with one and with ``cores`` threads inside a run. Raises CannotRun."""

    def __init__(self, folder: Path, cores: int) -> None:
        bundle = open_bundle(folder)
        if bundle.manifest.backend != "onnxruntime":
            raise CannotRun(f"{folder}: its backend is {bundle.manifest.backend!r}; the bench compares ONNX Runtime")
        self.cores = cores
        self.batch_invariant = bundle.manifest.batch_invariant
        self.task = bundle.open_task()
        self.longest = self.task.max_sizes["length"]
        ((self._name, self._graph),) = self.task.graphs.items()
        self._alone = graphs.opened(bundle, Settings())
        options = ort.SessionOptions()
        options.intra_op_num_threads = cores
        options.log_severity_level = 3
        if VNNI in processor.read().lacking(bundle.manifest.needs):
            options.add_session_config_entry(*PRECISE)
        path = str(bundle.graph_files()[self._name])
        self._together = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def tokens(self, text: str) -> int:
        """How many tokens the model sees of a text."""
        return len(self.task.encode({"text": text})[self._graph.inputs[0].name])

    def label(self, text: str) -> str:
        """The label of a text that runs alone."""
        encoded = self.task.encode({"text": text})
        outputs = {name: array[0] for name, array in self._run([encoded], 1).items()}
        return str(self.task.decode(encoded, outputs)["label"])

    def saturated(self, strategy: Strategy, texts: Sequence[str], seconds: float) -> Figures:
        """Rows a second over whole passes, the longest rows first, until ``seconds`` have passed."""
        ordered = sorted(texts, key=self.tokens, reverse=True) if strategy.rows > 1 else list(texts)
        groups = [ordered[at : at + strategy.rows] for at in range(0, len(ordered), strategy.rows)]
        began, passes = time.perf_counter(), 0
        while passes == 0 or time.perf_counter() - began < seconds:
            self._pass(groups, strategy)
            passes += 1
        spent = time.perf_counter() - began
        return Figures(passes * len(texts) / spent, seconds=spent)

    def one_by_one(self, inside: int, texts: Sequence[str], seconds: float) -> Figures:
        """What encoding and running one text takes, on one core but for what is inside a run."""
        taken: list[float] = []
        began = time.perf_counter()
        for text in itertools.cycle(texts):
            before = time.perf_counter()
            self._run([self.task.encode({"text": text})], inside)
            taken.append(time.perf_counter() - before)
            if time.perf_counter() - began >= seconds:
                break
        p50, p99 = np.percentile(taken, [50, 99]) * 1e3
        return Figures(len(taken) / sum(taken), float(p50), float(p99), 0, sum(taken))

    def _pass(self, groups: Sequence[Sequence[str]], strategy: Strategy) -> None:
        waiting, lock = iter(groups), threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    group = next(waiting, None)
                if group is None:
                    return
                self._run([self.task.encode({"text": text}) for text in group], strategy.inside)

        threads = [threading.Thread(target=work) for _ in range(strategy.callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, encoded: Sequence[Tensors], inside: int) -> Mapping[str, Array]:
        batch = stack(encoded, self._graph.inputs)
        if inside == 1:
            return self._alone.run(self._name, batch)
        names = [output.name for output in self._graph.outputs]
        return dict(zip(names, self._together.run(names, dict(batch)), strict=True))


def best(results: Results, trace: str, alone: bool = False) -> tuple[str, float] | None:
    """The strategy with the highest median rate on a trace, of all or of those that run rows ``alone``."""
    rates = {
        row: found.rate
        for row in results.rows(trace, LOAD)
        if (found := results.over(row, trace, LOAD)) and (not alone or ": 1 row" in row)
    }
    row = max(rates, key=lambda name: rates[name], default=None)
    return None if row is None else (row, rates[row])

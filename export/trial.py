"""A trial of one graph: measured by a process that serves it and does nothing else, as production would.

That process (``export.measuring``) never loads torch, so its memory and its speed are those of a server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.invariance import Invariance
from serving.bundle import ASSETS, Bundle, plain, write_json
from serving.errors import DownstreamError
from serving.manifest import Manifest
from serving.tensors import Row

ORDER, ROWS, ANSWERS, MEASURED = "order.json", "rows.jsonl", "answers.jsonl", "measured.json"


class TrialError(DownstreamError):
    """The process that should run a graph failed."""


@dataclass(frozen=True)
class Speedup:
    """How many times faster than another graph, over the same rows in turns, with its 95 % bootstrap interval."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f} times as fast [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Measured:
    """What the backend that will serve a graph makes of it on this host.

    Milliseconds are of one row at a time on one thread; ``rows_per_second`` of all cores, busy, through the scheduler;
    ``memory`` is the bytes of the process (its proportional set size) that serves it. ``speedup`` is against the
    floating-point graph, where there is one to compare with.
    """

    p50_ms: float
    p99_ms: float
    rows_per_second: float
    memory: int
    load_seconds: float
    invariance: Invariance
    speedup: Speedup | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measured:
        """The inverse of dataclasses.asdict."""
        speedup = value["speedup"]
        nested = {
            "invariance": Invariance(**value["invariance"]),
            "speedup": Speedup(**speedup) if speedup else None,
        }
        return cls(**{**value, **nested})


@dataclass(frozen=True)
class Graphed:
    """A graph file, and what a manifest would say of how it is run."""

    file: Path
    backend: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Order:
    """What to measure: a graph of a task, and the graph that its speed is compared with."""

    task: str
    graph: str
    tried: Graphed
    baseline: Graphed | None

    def write(self, folder: Path) -> None:
        """Into the folder of the trial."""
        write_json(folder / ORDER, json.loads(json.dumps(asdict(self), default=str)))

    @classmethod
    def read(cls, folder: Path) -> Order:
        """The inverse of write."""
        value = json.loads((folder / ORDER).read_text("utf-8"))
        return cls(
            value["task"], value["graph"], _graphed(value["tried"]), value["baseline"] and _graphed(value["baseline"])
        )

    def bundle(self, folder: Path, graphed: Graphed, *, batch_invariant: bool) -> Bundle:
        """The graph as a server would open it; nothing is proved yet."""
        manifest = Manifest(
            name="trial", version=1, task=self.task, backend=graphed.backend, precision="",
            graphs={self.graph: str(graphed.file.absolute())}, tolerance={}, max_batch_size=32,
            batch_invariant=batch_invariant, needs=graphed.needs,
        )  # fmt: skip
        return Bundle(folder, manifest)


def _graphed(value: Mapping[str, Any]) -> Graphed:
    return Graphed(Path(value["file"]), value["backend"], tuple(value["needs"]))


def run(
    name: str, task: str, graph: str, assets: Path, rows: Sequence[Row], tried: Graphed, baseline: Graphed | None
) -> tuple[list[Row], Measured]:
    """The answers of a graph to ``rows`` (inputs only), each run alone, and what was measured.

    Raises TrialError with the last words of the process, as when a graph cannot be opened.
    """
    with tempfile.TemporaryDirectory(prefix="downstream-trial-") as temporary:
        folder = Path(temporary)
        (folder / ASSETS).symlink_to(assets.absolute(), target_is_directory=True)
        Order(task, graph, tried, baseline).write(folder)
        with (folder / ROWS).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(plain(row), ensure_ascii=False) + "\n" for row in rows)
        code, said = measured_apart(temporary, name)
        if code:
            raise TrialError(f"{name} cannot be run: {said.strip() or f'exit code {code}'}")
        with (folder / ANSWERS).open(encoding="utf-8") as lines:
            answers = [json.loads(line) for line in lines]
        return answers, Measured.from_json(json.loads((folder / MEASURED).read_text("utf-8")))


def measured_apart(folder: str, name: str) -> tuple[int, str]:
    """Exit code and last words of the process that measures what is ordered in a folder."""
    command = [sys.executable, "-m", "export.measuring", folder, name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.returncode, done.stdout

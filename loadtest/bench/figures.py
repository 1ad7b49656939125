"""What one measurement gives, and what many rounds of it give together."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Figures:
    """Good answers a second, latencies in milliseconds (None where nobody waits), failed requests, seconds measured."""

    rate: float
    p50: float | None = None
    p99: float | None = None
    failed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Measured:
    """The figures of one row of the table under one load in one round."""

    row: str
    trace: str
    load: str
    round: int
    figures: Figures


@dataclass
class About:
    """What is told of one system: bytes of memory (the most seen), seconds from start to the first answer.

    ``absent`` is why it was not measured; ``notes`` are remarks of this run; ``settings`` is how it was set up.
    """

    settings: str = ""
    version: str = ""
    memory: int | None = None
    ready: float | None = None
    absent: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Over:
    """Over the rounds: median, least and greatest rate; median latencies in milliseconds; all failures."""

    rate: float
    least: float
    most: float
    p50: float | None
    p99: float | None
    failed: int


@dataclass
class Results:
    """Everything measured so far, in order."""

    measured: list[Measured] = field(default_factory=list)
    systems: dict[str, About] = field(default_factory=dict)

    def add(self, row: str, trace: str, load: str, number: int, figures: Figures) -> None:
        """Keep one measurement."""
        self.measured.append(Measured(row, trace, load, number, figures))

    def over(self, row: str, trace: str, load: str) -> Over | None:
        """The rounds of one cell together; None where it was not measured."""
        found = [one.figures for one in self.measured if (one.row, one.trace, one.load) == (row, trace, load)]
        if not found:
            return None
        rates = [one.rate for one in found]
        return Over(
            statistics.median(rates),
            min(rates),
            max(rates),
            _median(one.p50 for one in found),
            _median(one.p99 for one in found),
            sum(one.failed for one in found),
        )

    def rows(self, trace: str, load: str) -> list[str]:
        """The rows measured under that load, in the order in which they were first seen."""
        return list(dict.fromkeys(one.row for one in self.measured if (one.trace, one.load) == (trace, load)))

    def write(self, path: Path, facts: dict[str, object]) -> None:
        """All of it as JSON, with ``facts`` about the run; the old file stays whole until the new one is."""
        temporary = path.with_name(path.name + ".partial")
        value = {
            "schema": 1,
            **facts,
            "systems": {name: asdict(about) for name, about in self.systems.items()},
            "measured": [asdict(one) for one in self.measured],
        }
        temporary.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> tuple[Results, dict[str, object]]:
        """The inverse of write: the results and the facts."""
        value = json.loads(path.read_text("utf-8"))
        measured = [Measured(**{**one, "figures": Figures(**one["figures"])}) for one in value.pop("measured")]
        systems = {name: About(**about) for name, about in value.pop("systems").items()}
        return cls(measured, systems), value


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None

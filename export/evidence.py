"""What an export found out: every graph that was tried, what was measured of it, and what its gates said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from export.gates.case import Verdict
from export.int8.drift import Drift
from export.route_choice import Route
from export.structure import Structure
from export.sweep import Swept
from export.trial import Graphed, Measured
from export.verification import Answered
from serving.manifest import Manifest


@dataclass(frozen=True)
class Candidate:
    """One graph that was tried. ``seconds`` are those of making it."""

    graphed: Graphed
    answered: Answered
    measured: Measured
    structure: Structure
    seconds: float = 0.0
    verdicts: tuple[Verdict, ...] = ()
    kept: bool = False

    @property
    def name(self) -> str:
        """The kind of graph."""
        return self.answered.name

    @property
    def size(self) -> int:
        """Bytes of the graph."""
        return self.graphed.file.stat().st_size

    @property
    def missed(self) -> list[Verdict]:
        """The gates that it fails, but for those that were accepted."""
        return [verdict for verdict in self.verdicts if not verdict.holds]

    @property
    def outcome(self) -> str:
        """Why it was kept or not, in words."""
        if self.missed:
            return f"rejected: {'; '.join(verdict.message for verdict in self.missed)}"
        accepted = [f"{v.gate} is accepted: {v.accepted}" for v in self.verdicts if v.accepted]
        return "; ".join(["kept" if self.kept else "passed", *accepted])

    def summary(self) -> dict[str, Any]:
        """The figures, for manifests and reports."""
        measured, speedup = self.measured, self.measured.speedup
        return {
            **self.answered.summary(),
            "bytes": self.size,
            "p50_ms": measured.p50_ms,
            "p99_ms": measured.p99_ms,
            "rows_per_second": measured.rows_per_second,
            "memory": measured.memory,
            "speedup": [speedup.ratio, speedup.low, speedup.high] if speedup else None,
            "in_batches": measured.invariance.summary(),
            "operators": dict(self.structure.counts),
            "seconds_to_make": round(self.seconds, 2),
            "verdict": self.outcome,
        }


@dataclass
class Evidence:
    """What was found out about an export; the report is made of it, also when a gate fails.

    ``served_route`` and ``quantized_route`` are the names of the ``routes`` to the graph that serves in floating point
    and to the one that integers are made of. ``drift`` is that of the kept graph, or of the one that came nearest.
    ``bundle`` is the manifest of what goes to the repository or to quarantine; it has a digest once it is written.
    """

    reference: Answered | None = None
    sweep: Sequence[Swept] = ()
    candidates: list[Candidate] = field(default_factory=list)
    routes: Sequence[Route] = ()
    served_route: str = ""
    quantized_route: str = ""
    drift: Sequence[Drift] = ()
    remarks: list[str] = field(default_factory=list)
    failure: str = ""
    bundle: Manifest | None = None

    @property
    def kept(self) -> Candidate | None:
        """The graph that goes into the bundle, or that came nearest to it; the floating-point one if there is no other.

        The floating-point graph is the first candidate, and passing its own gates makes it no INT8 graph.
        """
        kept = [candidate for candidate in self.candidates if candidate.kept]
        return kept[0] if kept else nearest(self.candidates[1:] or self.candidates)

    @property
    def compared(self) -> list[Candidate]:
        """The floating-point graph and, where it is another, the one that was kept or came nearest."""
        kept = self.kept
        return self.candidates[:1] + ([kept] if kept and kept is not self.candidates[0] else [])

    def quality(self) -> dict[str, dict[str, Any]]:
        """The figures of PyTorch and of every candidate, by name."""
        found = {"pytorch": self.reference.summary()} if self.reference else {}
        return {**found, **{candidate.name: candidate.summary() for candidate in self.candidates}}


def nearest(candidates: Sequence[Candidate]) -> Candidate | None:
    """The one that misses the fewest gates and, of those, has the best metric."""
    return min(candidates, key=lambda one: (len(one.missed), -one.answered.value), default=None)

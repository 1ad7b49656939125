"""The search for a graph: each rung is made, measured and held to its gates, until one passes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from export import judging, report, structure, trial
from export.floating import Floats
from export.gates.case import Case, Structure, Verdict
from export.rungs import FP32, Rung, Source
from export.sweep import Swept
from export.trial import Graphed, Measured, TrialError
from export.verification import Answered, verify
from serving.errors import DownstreamError
from serving.tasks import Task
from serving.tensors import Row


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
    """What was found out about an export; the report is made of it, also when a gate fails."""

    reference: Answered | None = None
    sweep: list[Swept] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    failure: str = ""

    @property
    def kept(self) -> Candidate | None:
        """The graph that goes into the bundle, or that came nearest to it."""
        kept = [candidate for candidate in self.candidates if candidate.kept]
        return kept[0] if kept else nearest(self.candidates)

    def quality(self) -> dict[str, dict[str, Any]]:
        """The figures of PyTorch and of every candidate, by name."""
        found = {"pytorch": self.reference.summary()} if self.reference else {}
        return {**found, **{candidate.name: candidate.summary() for candidate in self.candidates}}


class GateFailed(DownstreamError):
    """No graph is good enough to serve; ``code`` is the exit code of the gate that was missed."""

    def __init__(self, message: str, code: int = judging.NOT_MADE) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Bench:
    """What every graph is measured on: the validation rows with PyTorch's answers to them."""

    task: Task
    name: str
    assets: Path
    rows: Sequence[Row]
    lengths: Sequence[int]
    reference: Answered
    tolerance: float
    accepted: Mapping[str, str]

    def measure(self, name: str, graphed: Graphed, made_of: Structure, floats: Candidate | None) -> Candidate:
        """Run a graph in a process that serves it. Raises TrialError where it cannot be run."""
        inputs = [field.name for field in self.task.inputs]
        rows = [{name: row[name] for name in inputs if name in row} for row in self.rows]
        (graph,) = self.task.graphs
        baseline = floats.graphed if floats else None
        answers, measured = trial.run(name, self.name, graph, self.assets, rows, graphed, baseline)
        answered = verify(name, self.task, self.rows, answers, self.reference.answers)
        return Candidate(graphed, answered, measured, made_of)

    def judge(self, candidate: Candidate, floats: Candidate, *, promises_invariance: bool = True) -> Candidate:
        """The candidate with the verdict of every gate."""
        case = Case(
            self.task, self.rows, self.lengths, self.reference, floats.answered, candidate.answered,
            candidate.measured, candidate.structure, promises_invariance, self.tolerance,
        )  # fmt: skip
        return replace(candidate, verdicts=judging.judge(case, self.accepted))


def start(bench: Bench, floats: Floats, evidence: Evidence) -> Candidate:
    """The floating-point graph, which the others are compared with; it has gates of its own."""
    graphed = Graphed(floats.to_serve, floats.backend)
    candidate = bench.measure(FP32, graphed, structure.of_floats(floats), None)
    candidate = bench.judge(candidate, candidate)
    evidence.candidates.append(candidate)
    tell(candidate, bench.reference)
    return candidate


def climb(
    bench: Bench, rungs: Sequence[Rung], source: Source, floats: Candidate, evidence: Evidence, *, best: bool
) -> Candidate:
    """The first graph that passes its gates or, of all, the one with the most rows a second; all go to the evidence.

    Raises GateFailed when none passes, with the code of what the nearest one missed.
    """
    for rung in rungs:
        try:
            candidate = _tried(bench, rung, source, floats)
        except (TrialError, ValueError, RuntimeError) as error:
            # A quantizer that cannot do this graph is a reason to try the next one, and to say so.
            evidence.remarks.append(f"{rung.name} could not be made: {str(error).strip() or type(error).__name__}")
            print(evidence.remarks[-1])
            continue
        evidence.candidates.append(candidate)
        tell(candidate, bench.reference)
        if not candidate.missed and not best:
            break
    passed = [candidate for candidate in evidence.candidates if candidate is not floats and not candidate.missed]
    if not passed:
        raise failure(evidence.candidates[1:], evidence.remarks)
    kept = max(passed, key=lambda candidate: candidate.measured.rows_per_second)
    return keep(kept, evidence)


def keep(candidate: Candidate, evidence: Evidence) -> Candidate:
    """The candidate, marked in the evidence as the one that goes into the bundle. Raises GateFailed if it may not."""
    if candidate.missed:
        raise failure([candidate], evidence.remarks)
    kept = replace(candidate, kept=True)
    evidence.candidates = [kept if one is candidate else one for one in evidence.candidates]
    return kept


def nearest(candidates: Sequence[Candidate]) -> Candidate | None:
    """The one that misses the fewest gates and, of those, has the best metric."""
    return min(candidates, key=lambda one: (len(one.missed), -one.answered.value), default=None)


def failure(candidates: Sequence[Candidate], remarks: Sequence[str]) -> GateFailed:
    """Why none of these can be kept."""
    found = nearest(candidates)
    if found is None:
        return GateFailed("; ".join(remarks) or "nothing was tried")
    missed = "; ".join(f"{verdict.gate}: {verdict.message}" for verdict in found.missed)
    others = f" (the nearest of {len(candidates)})" if len(candidates) > 1 else ""
    return GateFailed(f"gate failed: {missed}{others}", judging.code(found.verdicts))


def _tried(bench: Bench, rung: Rung, source: Source, floats: Candidate) -> Candidate:
    begun = time.perf_counter()
    rung.make(source, rung.name)
    seconds = time.perf_counter() - begun
    found = structure.of_integers(source, rung.name)
    graphed = replace(floats.graphed, file=source.path(rung.name), needs=found.needs)
    candidate = replace(bench.measure(rung.name, graphed, found, floats), seconds=seconds)
    return bench.judge(candidate, floats, promises_invariance=rung.promises_invariance)


def tell(candidate: Candidate, reference: Answered) -> None:
    """The candidate in a few lines of the terminal."""
    print(report.line(candidate, reference))
    for verdict in candidate.verdicts:
        if not verdict.passed:
            print(f"  {'accepted' if verdict.accepted else 'FAILED'}  {verdict.gate}: {verdict.message}")
    print(f"  {candidate.name}: {candidate.outcome.split(':')[0]}")

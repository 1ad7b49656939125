"""The search for a graph: each rung is made, measured and held to its gates, until one passes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export import judging, report, structure, trial
from export.evidence import Candidate, Evidence, nearest
from export.floating import Floats
from export.gates.case import Case, Structure
from export.rungs import FP32, Rung, Source
from export.trial import Graphed, TrialError
from export.verification import Answered, verify
from serving.errors import DownstreamError
from serving.tasks import Task
from serving.tensors import Row


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

"""The search for a graph: each rung is made, measured and held to its gates, until one passes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from export import judging, operators, report, structure, trial
from export.evidence import Candidate, Evidence, nearest
from export.floating import Floats
from export.gates.case import Case
from export.int8.drift import Drift, measure_drift
from export.operators import Promised
from export.rungs import FP32, Rung, Source
from export.structure import Structure
from export.trial import Graphed
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


@dataclass(frozen=True)
class Climb:
    """What every rung is tried with: the graph that it is made of and compared with, and what that one promises."""

    bench: Bench
    source: Source
    promised: Promised
    floats: Candidate
    evidence: Evidence


def start(bench: Bench, floats: Floats, evidence: Evidence) -> Candidate:
    """The floating-point graph, which the others are compared with; it has gates of its own."""
    candidate = bench.measure(FP32, Graphed(floats.to_serve, floats.backend), floats.structure, None)
    candidate = bench.judge(candidate, candidate)
    evidence.candidates.append(candidate)
    tell(candidate, bench.reference)
    return candidate


def climb(own: Climb, rungs: Sequence[Rung], *, best: bool) -> Candidate:
    """The first graph that passes its gates or, of all, the one with the most rows a second; all go to the evidence.

    Raises GateFailed when none passes, with the code of what the nearest one missed.
    """
    evidence, tried = own.evidence, dict[str, Rung]()
    for rung in rungs:
        print(f"{rung.name} ({rung.what})")
        try:
            candidate = _tried(own, rung)
        except OSError:
            raise  # a full disk is no fault of the rung
        except Exception as error:  # those of onnx and ONNX Runtime have no common root
            # A quantizer that cannot do this graph is a reason to try the next one, and to say so.
            evidence.remarks.append(f"{rung.name} could not be made: {str(error).strip() or type(error).__name__}")
            print(evidence.remarks[-1])
            continue
        tried[rung.name] = rung
        evidence.candidates.append(candidate)
        tell(candidate, own.bench.reference)
        if not candidate.missed and not best:
            break
    integers = evidence.candidates[1:]
    passed = [candidate for candidate in integers if not candidate.missed]
    found = max(passed, key=lambda one: one.measured.rows_per_second) if passed else nearest(integers)
    if found:
        evidence.drift = _drift(own, tried[found.name])
    if not passed or not found:
        raise failure(integers, evidence.remarks)
    return keep(found, evidence)


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


def _tried(own: Climb, rung: Rung) -> Candidate:
    begun = time.perf_counter()
    rung.make(own.source, rung.name)
    seconds = time.perf_counter() - begun
    made_of = _structure(own, rung)
    graphed = replace(own.floats.graphed, file=own.source.path(rung.name), needs=made_of.needs)
    candidate = replace(own.bench.measure(rung.name, graphed, made_of, own.floats), seconds=seconds)
    return own.bench.judge(candidate, own.floats, promises_invariance=rung.promises_invariance)


def _structure(own: Climb, rung: Rung) -> Structure:
    source, path = own.source, own.source.path(rung.name)
    if source.floats is None:
        return structure.of_torchscript(path)
    counted = operators.count(path)
    if not rung.is_integer:
        return structure.of_operators(counted, replace(own.promised, integer=0))
    original = source.smoothed if rung.smoothed else source.floats
    return structure.of_integers(counted, own.promised, original, path, source.graph, source.calibration)


def _drift(own: Climb, rung: Rung) -> Sequence[Drift]:
    source = own.source
    if source.floats is None or not rung.is_integer or not source.calibration:
        return ()
    original = source.smoothed if rung.smoothed else source.floats
    return measure_drift(original, source.path(rung.name), source.graph, source.calibration)


def tell(candidate: Candidate, reference: Answered) -> None:
    """The candidate in a few lines of the terminal."""
    print(report.line(candidate, reference))
    for verdict in candidate.verdicts:
        if not verdict.passed:
            print(f"  {'accepted' if verdict.accepted else 'FAILED'}  {verdict.gate}: {verdict.message}")
    print(f"  {candidate.name}: {candidate.outcome.split(':')[0]}")

"""The graphs of one export, best first: each is made, measured and held to its gates, until one passes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from export import report
from export.int8 import dynamic, static
from export.int8.products import integer_products
from export.int8.saturation import saturates
from export.invariance import measure_invariance
from export.sweep import Swept
from export.verification import Candidate, compared_outputs, measure, run_singly
from serving.backends import open_backend
from serving.errors import DownstreamError, InvalidInput, fault
from serving.tasks import Task
from serving.tensors import Row, Tensors

BACKEND = "onnxruntime"
FP32, STATIC, DYNAMIC = "fp32", "int8-static", "int8-dynamic"
# A static graph answers a row alike in any batch, so it may be served in batches: it comes first.
LADDERS = {"int8": (STATIC, DYNAMIC), STATIC: (STATIC,), DYNAMIC: (DYNAMIC,), FP32: (FP32,)}
NOT_CALIBRATED = (
    "the checkpoint is older than calibration.jsonl and has no rows to calibrate on; train again to get them"
)


class GateFailed(DownstreamError):
    """The graph is not good enough to serve."""


@dataclass
class Evidence:
    """What was found out about an export; the report is made of it, also when a gate fails."""

    sweep: list[Swept] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    gates: list[tuple[bool, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Trial:
    """What every graph is measured on: the validation rows and PyTorch's answers; ``calibration`` are encoded rows."""

    task: Task
    rows: Sequence[Row]
    encoded: Sequence[Tensors]
    reference: Sequence[Row]
    calibration: Sequence[Tensors]

    def measure(self, name: str, path: Path) -> Candidate:
        """The candidate of a graph, run by the backend that will serve it: row by row, and some rows in batches."""
        (graph,) = self.task.graphs
        backend = open_backend(BACKEND, {graph: path})
        with tqdm(total=len(self.encoded), desc=f"ONNX Runtime {name}", unit="row") as bar:
            answers, seconds = run_singly(backend, self.task, self.encoded, bar.update)
        measured = measure(name, self.task, self.rows, answers, self.reference, seconds, path)
        outputs = compared_outputs(self.task)
        return replace(measured, invariance=measure_invariance(backend, self.task, self.encoded, answers, outputs))


def check(precision: str, *, calibrated: bool) -> None:
    """Raise InvalidInput, before any work, for a precision that the checkpoint has no rows for."""
    if precision == STATIC and not calibrated:
        raise InvalidInput(fault("--precision", NOT_CALIBRATED, precision, f"or give {DYNAMIC}"))


def climb(trial: Trial, precision: str, fp32: Path, tolerance: float, evidence: Evidence) -> Path:
    """The first graph of that precision that passes its gates; what was tried goes to the evidence, the kept one last.

    ``tolerance`` is in points of the first metric. Raises GateFailed when none passes.
    """
    evidence.candidates.append(
        measure("pytorch", trial.task, trial.rows, trial.reference, trial.reference, [], None),
    )
    if precision != FP32:
        _tell(trial.measure(FP32, fp32), evidence)
    failed: list[str] = []
    left_out = ""
    for name in LADDERS[precision]:
        if name == STATIC and not trial.calibration:
            left_out = f"; {STATIC} was left out: {NOT_CALIBRATED}"
            continue
        path = _made(name, fp32, trial)
        candidate = trial.measure(name, path)
        gates = list(_gates(candidate, path, evidence.candidates[0], tolerance))
        evidence.gates += gates
        missed = [message for passed, message in gates if not passed]
        verdict = f"rejected: {'; '.join(missed)}" if missed else f"kept: {gates[-1][1]}{left_out}"
        _tell(replace(candidate, verdict=verdict), evidence)
        if not missed:
            return path
        failed += missed
    raise GateFailed(f"gate failed: {'; '.join(failed)}; try --precision fp32, or allow more with --tolerance")


def _made(name: str, fp32: Path, trial: Trial) -> Path:
    path = fp32.with_name(f"{name}.onnx")
    if name == STATIC:
        (graph,) = trial.task.graphs.values()
        static.static_int8(fp32, path, graph, trial.calibration, seven_bits=saturates())
    elif name == DYNAMIC:
        dynamic.dynamic_int8(fp32, path, seven_bits=saturates())
    return path


def _gates(candidate: Candidate, path: Path, reference: Candidate, tolerance: float) -> Iterator[tuple[bool, str]]:
    if candidate.name != FP32:
        integer, total = integer_products(path)
        yield integer > 0, f"{candidate.name}: {integer} of {total} matrix products in integers"
    lost = 100 * (reference.value - candidate.value)
    # Written so that NaN fails.
    yield (
        lost <= tolerance,
        (
            f"{candidate.metric} of {candidate.name}: {candidate.value:.4f}, PyTorch {reference.value:.4f}: "
            f"lost {lost:.2f} points, allowed {tolerance:g}"
        ),
    )


def _tell(candidate: Candidate, evidence: Evidence) -> None:
    evidence.candidates.append(candidate)
    print(report.line(candidate, evidence.candidates[0]))
    print(f"{candidate.name}: {candidate.invariance}")
    if candidate.verdict:
        print(f"{candidate.name}: {candidate.verdict}")

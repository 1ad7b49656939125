"""Gate: probabilities mean after quantization what they meant before; the temperature is fitted again."""

from __future__ import annotations

from export.gates.case import Case, Verdict
from export.temperature import Calibrated, calibrate

NAME, CODE = "calibration", 16
QUESTION = "are the probabilities as good as those of the checkpoint, once the temperature is fitted again?"
# Of expected calibration error. What a sample of a thousand rows gives by chance is half of it.
ALLOWED = 0.03


def judge(case: Case) -> Verdict:
    """Compare expected calibration errors, each with a temperature of its own that was fitted on the other rows."""
    if case.task.temperature is None:
        return Verdict(NAME, True, "the task gives no probabilities")
    before = calibrate(case.task, case.rows, case.reference.answers)
    after = calibrate(case.task, case.rows, case.judged.answers)
    if before is None or after is None:
        return Verdict(NAME, True, f"{len(case.rows)} validation rows are too few to fit a temperature on")
    return Verdict(
        NAME,
        after.error <= before.error + ALLOWED,
        f"{case.judged.name}: expected calibration error {after.raw:.4f} as it is, {after.error:.4f} with temperature "
        f"{after.temperature:.3f} (PyTorch {before.raw:.4f} and {before.error:.4f}; {ALLOWED:g} more allowed)",
        {"pytorch": _figures(before), "graph": _figures(after)},
    )


def _figures(found: Calibrated) -> dict[str, float]:
    return {name: round(value, 5) for name, value in found.__dict__.items()}

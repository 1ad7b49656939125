"""Gate: the floating-point graph is the model that was trained."""

from __future__ import annotations

import numpy as np

from export.gates.case import Case, Verdict
from export.verification import compared_outputs

NAME, CODE = "parity", 10
QUESTION = "does the floating-point graph answer the validation rows as PyTorch does?"
# Of an output's spread over the rows. Kernels of two libraries sum in different orders, which gives less than 1e-4.
LARGEST = 1e-2


def judge(case: Case) -> Verdict:
    """Compare every output of every row; a label may flip only where two labels are as near as the outputs differ."""
    worst, mean = 0.0, 0.0
    for name in compared_outputs(case.task):
        found, wanted = (
            np.concatenate([np.ravel(np.asarray(row[name], np.float64)) for row in side.answers])
            for side in (case.floats, case.reference)
        )
        if found.shape != wanted.shape:
            return Verdict(NAME, False, f"{name} has {found.size} values, PyTorch gives {wanted.size}")
        difference = np.abs(found - wanted)
        scale = max(1e-6, float(np.std(wanted)))
        # Written so that NaN is the largest.
        worst = max(worst, float(np.max(np.nan_to_num(difference, nan=np.inf))) / scale)
        mean = max(mean, float(np.mean(difference)) / scale)
    flips = round((1 - case.floats.agreement) * len(case.rows))
    figures = {
        "largest_difference": case.floats.largest_difference,
        "mean_difference": case.floats.mean_difference,
        "largest_relative": worst,
        "mean_relative": mean,
        "flips": flips,
        "rows": len(case.rows),
    }
    return Verdict(
        NAME,
        worst <= LARGEST,
        f"{case.floats.name} against PyTorch on {len(case.rows):,} validation rows: largest difference "
        f"{case.floats.largest_difference:.3g}, mean {case.floats.mean_difference:.3g} ({100 * worst:.2g} % and "
        f"{100 * mean:.2g} % of the outputs' spread, {100 * LARGEST:g} % allowed), {flips} labels flipped",
        figures,
    )

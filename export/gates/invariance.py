"""Gate: what a row is answered does not depend on the rows it runs with, where that was promised."""

from __future__ import annotations

from export.gates.case import Case, Verdict

NAME, CODE = "batch-invariance", 13
QUESTION = "do rows get the same answers in random batches as alone?"


def judge(case: Case) -> Verdict:
    """Floats and static INT8 promise it; where dynamic INT8 lacks it, servers run each row alone."""
    found = case.measured.invariance
    consequence = "may be served in batches" if found.held else "each row is served alone"
    return Verdict(
        NAME,
        found.held or not case.promises_invariance or found.rows < 2,
        f"{case.judged.name}: {found}: {consequence}",
        {**found.summary(), "held": found.held},
    )

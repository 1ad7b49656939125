"""Gate: integers are faster than floats here."""

from __future__ import annotations

from dataclasses import asdict

from export.gates.case import Case, Verdict

NAME, CODE = "speed", 12
QUESTION = "is the INT8 graph faster than the floating-point one, on this host?"


def judge(case: Case) -> Verdict:
    """Both graphs ran in turns; the whole interval must be above 1."""
    speedup = case.measured.speedup
    if speedup is None:
        return Verdict(NAME, True, f"{case.judged.name} is what other graphs are compared with")
    return Verdict(
        NAME,
        speedup.low > 1,
        f"{case.judged.name} is {speedup} as {case.floats.name}, row by row in turns on one thread",
        asdict(speedup),
    )

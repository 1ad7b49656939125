"""Gate: no sum of 16 bits overflows on this host; which instruction set it takes for that is recorded."""

from __future__ import annotations

from export.gates.case import Case, Verdict

NAME, CODE = "saturation", 14
QUESTION = "can the 16-bit sums of this host's CPU hold the products of this graph?"


def judge(case: Case) -> Verdict:
    """Predicted from calibration rows: CPUs without VNNI add pairs of 8-bit products in 16 bits."""
    name, found = case.judged.name, case.structure
    if not (found.sums or found.needs):
        return Verdict(NAME, True, f"{name} has no sums of 8-bit products that were looked into")
    share = found.overflows / max(1, found.sums)
    figures = {"overflows": found.overflows, "sums": found.sums, "needs": list(found.needs)}
    told = f"{name}: {found.overflows:,} of {found.sums:,} sums of the calibration rows ({100 * share:.2g} %)"
    if not found.needs:
        return Verdict(NAME, True, f"{told} overflow on CPUs without VNNI: it needs no instruction set", figures)
    return Verdict(
        NAME,
        found.safe_here,
        f"{told} overflow on CPUs without VNNI; this one {'has it' if found.safe_here else 'is such a CPU'}: "
        f"the bundle needs {', '.join(found.needs)}",
        figures,
    )

"""Gate: the graph that runs is the graph that was promised."""

from __future__ import annotations

from export.gates.case import Case, Verdict
from export.operators import NAMES

NAME, CODE = "graph", 15
QUESTION = "are the fused operators and integer products there that the architecture and the kind promise?"


def judge(case: Case) -> Verdict:
    """Operators are counted in the session as it was optimized; none of a promised kind is an error."""
    found = case.structure
    counts = ", ".join(f"{count} x {NAMES[kind]}" for kind, count in found.counts.items())
    problem = f"; {'; '.join(found.missing)}" if found.missing else ""
    return Verdict(NAME, not found.missing, f"{case.judged.name}: {counts or 'not counted'}{problem}", found.counts)

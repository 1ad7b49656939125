"""All gates in order, and what a person accepts in spite of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Final

from export.gates import accuracy, calibration, graph, invariance, parity, saturation, speed
from export.gates.case import Case, Verdict
from serving.errors import InvalidInput, fault, listed

GATES: Final[tuple[ModuleType, ...]] = (parity, accuracy, speed, invariance, saturation, graph, calibration)
# What is not there to be judged: the graph cannot be made, or does not reproduce the golden rows.
NOT_MADE = 3


def judge(case: Case, accepted: Mapping[str, str]) -> tuple[Verdict, ...]:
    """The verdict of every gate, in order, with the reason for which a failed one is accepted."""
    verdicts = [gate.judge(case) for gate in GATES]
    return tuple(
        verdict if verdict.passed else dataclasses.replace(verdict, accepted=accepted.get(verdict.gate, ""))
        for verdict in verdicts
    )


def code(verdicts: Sequence[Verdict]) -> int:
    """The exit code of the first gate that does not hold; 0 where all do."""
    codes = {gate.NAME: gate.CODE for gate in GATES}
    return next((codes[verdict.gate] for verdict in verdicts if not verdict.holds), 0)


def parse_accepted(words: Sequence[str]) -> dict[str, str]:
    """Reasons by gate, from ``GATE=reason``. Raises InvalidInput for an unknown gate and for one without a reason."""
    known = [gate.NAME for gate in GATES]
    reasons, faults = {}, []
    for word in words:
        name, _, reason = word.partition("=")
        if name not in known:
            faults.append(fault("--accept", "unknown gate", name, f"the gates are {', '.join(known)}"))
        elif not reason.strip():
            faults.append(
                fault("--accept", "no reason", word, f'say why, for whoever asks later: --accept {name}="..."')
            )
        reasons[name] = reason.strip()
    if faults:
        raise InvalidInput(listed(faults))
    return reasons


def explained() -> str:
    """The gates with their exit codes, for --help."""
    return "\n".join(f"  {gate.CODE}  {gate.NAME + ':':18}{gate.QUESTION}" for gate in GATES)

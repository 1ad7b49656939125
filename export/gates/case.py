"""What a gate looks at, and what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from export.structure import Structure
from export.trial import Measured
from export.verification import Answered
from serving.tasks import Task
from serving.tensors import Row


@dataclass(frozen=True)
class Verdict:
    """What one gate found, in one sentence and in figures; ``accepted`` is why a person lets it pass all the same."""

    gate: str
    passed: bool
    message: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    accepted: str = ""

    @property
    def holds(self) -> bool:
        """Whether the graph may serve as far as this gate goes."""
        return self.passed or bool(self.accepted)

    def summary(self) -> dict[str, Any]:
        """As the manifest keeps it."""
        return {
            "gate": self.gate,
            "passed": self.passed,
            "message": self.message,
            "figures": dict(self.figures),
            "accepted": self.accepted,
        }


@dataclass(frozen=True)
class Case:
    """One graph before its gates: all answers are to the same validation ``rows``, whose ``lengths`` are in tokens.

    ``reference`` is PyTorch; ``floats`` the floating-point graph, which may be the judged one. ``promises_invariance``
    is false for kinds that cannot have it. ``tolerance`` is in points of the first metric.
    """

    task: Task
    rows: Sequence[Row]
    lengths: Sequence[int]
    reference: Answered
    floats: Answered
    judged: Answered
    measured: Measured
    structure: Structure
    promises_invariance: bool
    tolerance: float

"""One queued row of a request: its arrays, and its times."""

from __future__ import annotations

from dataclasses import dataclass

from serving.call import Call, Timing
from serving.model import Stages
from serving.tensors import Tensors


@dataclass(eq=False, slots=True)
class Job:
    """One queued row: its arrays, its request, and when it was received and queued, in monotonic nanoseconds.

    ``stages`` is filled in when it has run.
    """

    encoded: Tensors
    call: Call
    deadline: float | None
    received: int
    queued: int
    stages: Stages | None = None

    def ran(self, stages: Stages) -> None:
        """Note the times of its run."""
        self.stages = stages
        self.call.timings.append(Timing(self.received, self.queued, **vars(stages)))


def share(flown: Job, rider: Job) -> None:
    """Note the times of a row that another one's run answered: they began when it came, at the earliest."""
    if flown.stages:
        passed = {stage: max(at, rider.queued) for stage, at in vars(flown.stages).items()}
        rider.call.timings.append(Timing(rider.received, rider.queued, **passed))

"""What a scheduler may do, in the terms of Triton's ModelDynamicBatching and ModelQueuePolicy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf


@dataclass(frozen=True)
class QueuePolicy:
    """How rows of one priority level may wait (Triton's ModelQueuePolicy).

    ``timeout`` is in seconds of waiting, however long the run takes then; None for no limit. A row that waited longer
    is refused, or, where ``reject`` is false, run after all others of its level. ``override`` lets a request ask for a
    shorter one, and for one where there is none. ``capacity`` is in waiting rows of the level, None for no limit of
    its own.
    """

    timeout: float | None = None
    override: bool = True
    reject: bool = True
    capacity: int | None = None

    def waiting_time(self, asked: float | None) -> float | None:
        """How long a row may wait whose request asked for ``asked`` seconds; None for as long as it takes."""
        if asked is None or not self.override:
            return self.timeout
        return asked if self.timeout is None else min(asked, self.timeout)


ANY_WAIT = QueuePolicy()


@dataclass(frozen=True)
class Limits:
    """What the scheduler may do.

    ``capacity`` is in waiting rows, ``max_tokens`` in padded tokens of a batch. ``max_waste`` bounds B * Lmax^2 over
    the sum of L^2, the share of attention spent on padding. A row joins a batch only where that saves more than the
    share ``gain`` of its own predicted cost.

    ``patience`` and ``stretch`` bound how long a row can be passed over: one without a deadline, or with a later one,
    is as urgent as one whose deadline is ``stretch`` times its predicted cost away, and at most ``patience`` seconds.
    So short rows go first, and each waits in proportion to what it asks for (Bender, Chakrabarti and Muthukrishnan,
    "Flow and stretch metrics for scheduling continuous job streams", SODA 1998). An infinite ``stretch`` is the order
    of arrival.

    The others are what a model's configuration may ask for. ``across`` lets rows of different requests run together.
    ``preferred`` are batch sizes to form where a batch of that size can be had. ``delay`` is in seconds: how long a row
    may be held back until there are rows for a batch of a preferred size, else of ``max_rows``; 0 holds nothing back,
    nor is a row held that may not wait that long. Rows have a priority level from 1, the most urgent, to ``levels``;
    ``level`` is that of a row that names none; ``policies`` are those of the levels, ``policy`` that of the levels that
    have none.
    """

    capacity: int = 2048
    max_rows: int = 32
    max_tokens: int = 256
    max_waste: float = 1.5
    patience: float = 10.0
    stretch: float = inf
    gain: float = 0.05
    across: bool = True
    preferred: tuple[int, ...] = ()
    delay: float = 0.0
    levels: int = 0
    level: int = 0
    policy: QueuePolicy = ANY_WAIT
    policies: Mapping[int, QueuePolicy] = field(default_factory=dict)

    def level_of(self, priority: int) -> int:
        """The level of a request's priority: a number that is no level, 0 above all, is the default level."""
        return priority if 1 <= priority <= self.levels else self.level

    def policy_of(self, level: int) -> QueuePolicy:
        """The queue policy of a level."""
        return self.policies.get(level, self.policy)

    def may_be_passed_over(self, cost: float) -> float:
        """Seconds for which rows that came later may run before one that is predicted to take ``cost`` seconds."""
        return self.patience if self.stretch == inf else min(self.patience, self.stretch * cost)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes worth forming: the preferred ones, else the largest where rows are held back for company."""
        fitting = tuple(size for size in self.preferred if size <= self.max_rows)
        return fitting or ((self.max_rows,) if self.delay else ())

    @property
    def enough(self) -> int:
        """Waiting rows for which none is held back."""
        return min(self.sizes, default=1)

    def formed(self, rows: int) -> int:
        """The largest size worth forming of so many rows; 0 where there is none."""
        return max((size for size in self.sizes if size <= rows), default=0)

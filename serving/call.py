"""What the rows of one request share: how long somebody waits, how urgent it is, and where its time went."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Timing:
    """When one row passed each stage, in nanoseconds of the monotonic clock.

    ``received`` before it was encoded, ``queued`` after that, ``begun`` when its batch was taken, ``stacked`` with the
    batch padded, ``inferred`` when the graph was done, ``decoded`` at the end.
    """

    received: int
    queued: int
    begun: int
    stacked: int
    inferred: int
    decoded: int

    @property
    def queue(self) -> int:
        """Nanoseconds of waiting for a runner."""
        return self.begun - self.queued

    @property
    def compute_input(self) -> int:
        """Nanoseconds of encoding the row and stacking its batch."""
        return self.queued - self.received + self.stacked - self.begun

    @property
    def compute_infer(self) -> int:
        """Nanoseconds of the graph."""
        return self.inferred - self.stacked

    @property
    def compute_output(self) -> int:
        """Nanoseconds of decoding the batch."""
        return self.decoded - self.inferred


@dataclass(eq=False)
class Call:
    """One request to an engine; its rows may run together whatever a model's configuration says of strangers.

    ``timeout`` is in seconds until nobody waits for the answer. ``wait`` is in seconds that a row may be queued, as
    far as the model's queue policy lets a request say so. ``priority`` is a level from 1, the most urgent; 0 means the
    model's default. ``timings`` and ``looked_up`` (nanoseconds spent on the cache) are filled in as rows are answered.
    """

    timeout: float | None = None
    wait: float | None = None
    priority: int = 0
    timings: list[Timing] = field(default_factory=list)
    looked_up: int = 0

    @property
    def timing(self) -> Timing | None:
        """That of the row that was answered last, which is what the request took."""
        return max(self.timings, key=lambda timing: timing.decoded, default=None)

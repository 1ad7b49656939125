"""Equal rows that are in flight at the same time share one run; each caller keeps its own deadline and answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from serving.errors import DeadlineExceeded
from serving.tensors import Array, Field, Tensors

Passenger = TypeVar("Passenger")


class Flight(Future[Any]):
    """One run, queued or running, and what its first passenger waits for; the ``riders`` were taken along.

    It is wanted until ``until``, on the clock of deadlines. The first passenger that leaves cancels the run only where
    no rider waits for it: else ``cancel`` is false, as of a run that has begun.
    """

    def __init__(self, lock: threading.Lock, key: Hashable, passenger: Any, until: float) -> None:
        super().__init__()
        self.lock, self.key, self.passenger, self.until = lock, key, passenger, until
        self.riders: list[Rider] = []
        self.left = False

    def cancel(self) -> bool:
        """Leave; whether nobody is aboard any more, and the run will not begin."""
        with self.lock:
            self.left = True
        return self.cancel_if_empty()

    def cancel_if_empty(self) -> bool:
        """Cancel the run if everybody left."""
        with self.lock:
            empty = self.left and all(rider.cancelled() for rider in self.riders)
        return empty and super().cancel()


class Rider(Future[Any]):
    """What a passenger that was taken along waits for."""

    def __init__(self, flight: Flight, passenger: Any, until: float) -> None:
        super().__init__()
        self.flight, self.passenger, self.until = flight, passenger, until

    def cancel(self) -> bool:
        """Leave; the run is cancelled with the last one."""
        if not super().cancel():
            return False
        self.flight.cancel_if_empty()
        return True


class Flights(Generic[Passenger]):
    """Runs by what they compute. ``fly`` queues a run for a passenger; ``share`` tells of one who was taken along.

    A passenger goes along where that is no later than flying alone: with a run that has begun, or with a queued one
    whose deadline is not after its own, which makes that one as urgent. Where the run misses a deadline that was not a
    passenger's own, that passenger flies again.
    """

    def __init__(
        self, fly: Callable[[Passenger, Flight], object], share: Callable[[Passenger, Passenger], None]
    ) -> None:
        self._fly, self._share = fly, share
        self._known: dict[Hashable, Flight] = {}
        # Never held while a run is queued or a future completed: those have locks of their own.
        self._lock = threading.Lock()
        self.shared = 0

    def board(self, key: Hashable, passenger: Passenger, until: float) -> Future[Any]:
        """The answer of the run for ``key``, one that is known or a new one. Raises what ``fly`` raises."""
        with self._lock:
            known = self._known.get(key)
            if known and (until >= known.until or known.running()):
                self.shared += 1
                rider = Rider(known, passenger, until)
                known.riders.append(rider)
                return rider
        flight = Flight(self._lock, key, passenger, until)
        self._fly(passenger, flight)
        with self._lock:
            self._known[key] = flight
        flight.add_done_callback(self._land)
        return flight

    def _land(self, flight: Any) -> None:
        key: Hashable = flight.key
        with self._lock:
            if self._known.get(key) is flight:
                del self._known[key]
            riders, flight.riders = flight.riders, []
        if not riders:
            return
        cancelled = flight.cancelled()
        error = None if cancelled else flight.exception()
        for rider in riders:
            # One may have come in just when the last one left.
            if cancelled or (isinstance(error, DeadlineExceeded) and rider.until > flight.until):
                self._fly_again(key, rider)
            else:
                if not error:
                    self._share(flight.passenger, rider.passenger)
                _pass_on(flight, rider)

    def _fly_again(self, key: Hashable, rider: Rider) -> None:
        if rider.cancelled():
            return
        try:
            again = self.board(key, rider.passenger, rider.until)
        except Exception as error:
            if rider.set_running_or_notify_cancel():
                rider.set_exception(error)
            return
        rider.add_done_callback(lambda own: again.cancel() if own.cancelled() else None)
        again.add_done_callback(lambda run: None if run.cancelled() else _pass_on(run, rider))


def _pass_on(run: Future[Any], rider: Rider) -> None:
    if not rider.set_running_or_notify_cancel():
        return
    if error := run.exception():
        rider.set_exception(error)
    else:
        rider.set_result(run.result())


Identity = tuple[tuple[str, tuple[int, ...], str, bytes], ...]


def identity(encoded: Tensors, fields: Sequence[Field]) -> Identity:
    """What a graph is given of a row, to look it up by: equal for equal arrays, and for no others."""
    return tuple(
        (field.name, array.shape, array.dtype.str, _content(array))
        for field in fields
        if (array := encoded.get(field.name)) is not None
    )


def _content(array: Array) -> bytes:
    # The bytes of an array of objects are addresses.
    return repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes()

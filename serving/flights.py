"""Equal rows that are in flight at the same time share one run; each caller keeps its own deadline and answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from serving.errors import DeadlineExceeded
from serving.tensors import Array, Field, Tensors

Passenger = TypeVar("Passenger")


class Ticket(Future[Any]):
    """What one caller waits for; giving it back cancels the run only where nobody else waits for it."""

    def __init__(self, leave: Callable[[], None]) -> None:
        super().__init__()
        self._leave = leave

    def cancel(self) -> bool:
        """As of any future; the row of a caller that left is not run unless for others."""
        left = not self.cancelled() and super().cancel()
        if left:
            self._leave()
        return left or self.cancelled()


@dataclass(eq=False)
class Flight(Generic[Passenger]):
    """One run, queued or running: until when it is wanted, on the clock of deadlines, and who waits for it."""

    until: float
    run: Future[Any]
    aboard: list[tuple[Passenger, float, Ticket]] = field(default_factory=list)


class Flights(Generic[Passenger]):
    """Runs by what they compute. ``fly`` queues a run for a passenger; ``share`` tells of one who was taken along.

    A passenger goes along where that is no later than flying alone: with a run that has begun, or with a queued one
    whose deadline is not after its own, which makes that one as urgent. Where the run misses a deadline that was not a
    passenger's own, that passenger flies again.
    """

    def __init__(self, fly: Callable[[Passenger], Future[Any]], share: Callable[[Passenger, Passenger], None]) -> None:
        self._fly, self._share = fly, share
        self._known: dict[Hashable, Flight[Passenger]] = {}
        # Never held while a run is queued or a future completed: those have locks of their own.
        self._lock = threading.Lock()
        self.shared = 0

    def board(self, key: Hashable, passenger: Passenger, until: float) -> Future[Any]:
        """The answer of the run for ``key``, one that is known or a new one. Raises what ``fly`` raises."""
        with self._lock:
            flight = self._known.get(key)
            if flight and (flight.run.running() or until >= flight.until):
                self.shared += 1
                return self._ticket(key, flight, passenger, until)
        flight = Flight(until, self._fly(passenger))
        with self._lock:
            ticket = self._ticket(key, flight, passenger, until)
            self._known[key] = flight
        flight.run.add_done_callback(lambda run: self._land(key, flight))
        return ticket

    def _ticket(self, key: Hashable, flight: Flight[Passenger], passenger: Passenger, until: float) -> Ticket:
        ticket = Ticket(lambda: self._leave(key, flight))
        flight.aboard.append((passenger, until, ticket))
        return ticket

    def _leave(self, key: Hashable, flight: Flight[Passenger]) -> None:
        with self._lock:
            if not all(ticket.cancelled() for _, _, ticket in flight.aboard):
                return
            self._forget(key, flight)
        flight.run.cancel()

    def _forget(self, key: Hashable, flight: Flight[Passenger]) -> None:
        if self._known.get(key) is flight:
            del self._known[key]

    def _land(self, key: Hashable, flight: Flight[Passenger]) -> None:
        with self._lock:
            self._forget(key, flight)
        if flight.run.cancelled():
            return
        error = flight.run.exception()
        flown = flight.aboard[0][0]
        for passenger, until, ticket in flight.aboard:
            if isinstance(error, DeadlineExceeded) and until > flight.until:
                self._fly_again(key, passenger, until, ticket)
            elif ticket.set_running_or_notify_cancel():
                if error:
                    ticket.set_exception(error)
                    continue
                if passenger is not flown:
                    self._share(flown, passenger)
                ticket.set_result(flight.run.result())

    def _fly_again(self, key: Hashable, passenger: Passenger, until: float, ticket: Ticket) -> None:
        if ticket.cancelled():
            return
        try:
            again = self.board(key, passenger, until)
        except Exception as error:
            if ticket.set_running_or_notify_cancel():
                ticket.set_exception(error)
            return

        def pass_on(run: Future[Any]) -> None:
            if run.cancelled() or not ticket.set_running_or_notify_cancel():
                return
            if error := run.exception():
                ticket.set_exception(error)
            else:
                ticket.set_result(run.result())

        ticket.add_done_callback(lambda own: again.cancel() if own.cancelled() else None)
        again.add_done_callback(pass_on)


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

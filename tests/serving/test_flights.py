"""Equal rows in flight: one run, and yet each caller has its own deadline, may leave, and gets its own answer."""

from __future__ import annotations

from concurrent.futures import Future
from math import inf
from typing import Any

import numpy as np
import pytest

from serving.errors import DeadlineExceeded, Overloaded
from serving.flights import Flight, Flights, identity
from serving.tensors import Field


class Airport:
    """Flights whose runs a test starts and ends by hand; ``flown`` are the passengers that a run was queued for."""

    def __init__(self) -> None:
        self.flown: list[str] = []
        self.runs: list[Flight] = []
        self.shared: list[tuple[str, str]] = []
        self.full = False
        self.flights = Flights[str](self.fly, lambda flown, rider: self.shared.append((flown, rider)))

    def fly(self, passenger: str, run: Flight) -> None:
        if self.full:
            raise Overloaded("full")
        self.flown.append(passenger)
        self.runs.append(run)

    def board(self, passenger: str, until: float = inf, key: str = "row") -> Future[Any]:
        return self.flights.board(key, passenger, until)

    def begin(self, number: int = 0) -> bool:
        return self.runs[number].set_running_or_notify_cancel()

    def land(self, number: int = 0, answer: object = "answer") -> None:
        self.begin(number)
        if isinstance(answer, Exception):
            self.runs[number].set_exception(answer)
        else:
            self.runs[number].set_result(answer)


@pytest.fixture
def airport() -> Airport:
    return Airport()


def test_equal_rows_share_one_run_and_each_gets_the_answer(airport: Airport) -> None:
    tickets = [airport.board(name) for name in "abc"]
    assert airport.flown == ["a"]
    airport.land()
    assert [ticket.result(0) for ticket in tickets] == ["answer"] * 3
    assert airport.shared == [("a", "b"), ("a", "c")], "the run is told of those that it took along"
    assert airport.flights.shared == 2


def test_different_rows_run_each(airport: Airport) -> None:
    airport.board("a", key="one")
    airport.board("b", key="other")
    assert airport.flown == ["a", "b"]


def test_row_that_comes_after_the_answer_runs_anew(airport: Airport) -> None:
    airport.board("a")
    airport.land()
    airport.board("b")
    assert airport.flown == ["a", "b"]


def test_row_goes_along_with_a_run_that_has_begun_whatever_its_deadline(airport: Airport) -> None:
    airport.board("a", until=50)
    airport.begin()
    later = airport.board("b", until=10)
    airport.runs[0].set_result("answer")
    assert later.result(0) == "answer"
    assert airport.flown == ["a"]


def test_row_with_an_earlier_deadline_than_the_queued_one_runs_by_itself_and_takes_later_ones_along(
    airport: Airport,
) -> None:
    first = airport.board("patient", until=50)
    hurried, third = airport.board("hurried", until=10), airport.board("third", until=20)
    assert airport.flown == ["patient", "hurried"]
    airport.land(1, "early")
    assert (hurried.result(0), third.result(0)) == ("early", "early")
    assert not first.done()
    airport.land(0, "late")
    assert first.result(0) == "late"


@pytest.mark.parametrize("leaving", [(0,), (1,), (0, 2), (1, 2)])
def test_caller_that_leaves_does_not_cancel_the_others(airport: Airport, leaving: tuple[int, ...]) -> None:
    tickets = [airport.board(name) for name in "abc"]
    for number in leaving:
        tickets[number].cancel()
    assert airport.begin(), "the row is run for those that stayed"
    airport.runs[0].set_result("answer")
    assert all(tickets[number].result(0) == "answer" for number in range(3) if number not in leaving)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_row_is_not_run_once_all_left(airport: Airport, order: tuple[int, ...]) -> None:
    tickets = [airport.board(name) for name in "abc"]
    for number in order:
        tickets[number].cancel()
    assert not airport.begin()
    airport.board("d")
    assert airport.flown == ["a", "d"], "nobody joins a run that was cancelled"


def test_rider_outlives_the_deadline_of_the_run_it_joined(airport: Airport) -> None:
    first, rider = airport.board("first", until=10), airport.board("rider", until=50)
    airport.land(0, DeadlineExceeded("late"))
    assert isinstance(first.exception(0), DeadlineExceeded)
    assert not rider.done()
    assert airport.flown == ["first", "rider"]
    airport.land(1)
    assert rider.result(0) == "answer"


def test_rider_that_cannot_fly_again_is_told_why(airport: Airport) -> None:
    airport.board("first", until=10)
    rider = airport.board("rider", until=50)
    airport.full = True
    airport.land(0, DeadlineExceeded("late"))
    assert isinstance(rider.exception(0), Overloaded)


def test_rider_that_flies_again_may_still_leave(airport: Airport) -> None:
    airport.board("first", until=10)
    rider = airport.board("rider", until=50)
    airport.land(0, DeadlineExceeded("late"))
    assert rider.cancel()
    assert not airport.begin(1)


def test_failure_of_the_run_is_that_of_all_its_passengers(airport: Airport) -> None:
    tickets = [airport.board(name) for name in "ab"]
    error = RuntimeError("out of memory")
    airport.land(0, error)
    assert [ticket.exception(0) for ticket in tickets] == [error, error]
    assert airport.shared == []


def test_row_that_is_refused_leaves_nothing_behind(airport: Airport) -> None:
    airport.full = True
    with pytest.raises(Overloaded):
        airport.board("a")
    airport.full = False
    airport.board("b")
    assert airport.flown == ["b"]


def test_rows_are_equal_by_what_the_graph_is_given_of_them() -> None:
    fields = [Field("ids", "INT64", ("length",)), Field("mask", "INT64", ("length",))]
    row = {"ids": np.array([1, 2]), "mask": np.array([1, 1])}
    assert identity({**row, "offsets": np.array([0, 3])}, fields) == identity(row, fields)
    assert identity({**row, "ids": np.array([1, 3])}, fields) != identity(row, fields)
    assert identity({"ids": row["ids"]}, fields) != identity({"mask": row["ids"]}, fields)

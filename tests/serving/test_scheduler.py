"""The scheduler by hand: the clock moves when told, ``step`` runs one batch, and the log says what ran together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from serving.errors import DeadlineExceeded, NotReady, Overloaded
from serving.scheduler.limits import Limits
from serving.scheduler.runners import Batch, Scheduler
from tests.serving.clock import Clock


def per_run(rows: int, length: int) -> float:
    """A device on which a batch costs what one row costs: batching always pays."""
    return 1.0


def per_token(rows: int, length: int) -> float:
    """A device on which batching gains nothing and costs nothing."""
    return rows * length / 100


def in_capitals(payloads: Sequence[str]) -> list[str]:
    return [payload.upper() for payload in payloads]


class Bench:
    """A scheduler, its clock, and the batches that ran, as tuples of payloads."""

    def __init__(
        self,
        answer: Callable[[Sequence[Any]], Sequence[Any]] = in_capitals,
        cost: Callable[[int, int], float] = per_run,
        runners: int = 1,
        **limits: Any,
    ) -> None:
        self.answer = answer
        self.clock = Clock()
        self.ran: list[tuple[str, ...]] = []
        self.seen: list[Batch] = []
        self.scheduler = Scheduler(self.run, cost, self.clock, Limits(**limits), runners, self.seen.append)
        self.submit = self.scheduler.submit
        self.step = self.scheduler.step

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        self.ran.append(tuple(payloads))
        return self.answer(payloads)

    def drain(self) -> None:
        while self.step():
            pass


def test_waiting_rows_run_together_and_each_gets_its_own_answer() -> None:
    bench = Bench()
    futures = [bench.submit(name, 10) for name in "abc"]
    assert bench.step()
    assert bench.ran == [("a", "b", "c")]
    assert [future.result(0) for future in futures] == ["A", "B", "C"]
    assert not bench.step()


def test_single_row_never_waits_for_company() -> None:
    bench = Bench()
    future = bench.submit("a", 10)
    assert bench.step()
    assert future.result(0) == "A"


def test_expired_row_is_told_so_and_not_run() -> None:
    bench = Bench()
    late, fine = bench.submit("late", 10, deadline=5), bench.submit("fine", 10, deadline=50)
    bench.clock.advance(5)
    bench.drain()
    assert bench.ran == [("fine",)]
    assert fine.result(0) == "FINE"
    with pytest.raises(DeadlineExceeded):
        late.result(0)


def test_row_that_expires_in_the_middle_of_the_queue_is_not_run_as_a_batch_mate() -> None:
    bench = Bench(patience=1)
    urgent, mate = bench.submit("urgent", 10), bench.submit("mate", 10, deadline=5)
    bench.clock.advance(5)
    bench.drain()
    assert bench.ran == [("urgent",)]
    assert urgent.result(0) == "URGENT"
    assert isinstance(mate.exception(0), DeadlineExceeded)


def test_cancelled_row_is_not_run() -> None:
    bench = Bench()
    first, second, third = (bench.submit(name, 10) for name in "abc")
    first.cancel()
    third.cancel()
    bench.drain()
    assert bench.ran == [("b",)]
    assert second.result(0) == "B"


def test_queue_of_dead_rows_runs_nothing_and_leaves_nothing() -> None:
    bench = Bench()
    cancelled, expired = bench.submit("a", 10), bench.submit("b", 10, deadline=5)
    cancelled.cancel()
    bench.clock.advance(9)
    assert not bench.step()
    assert bench.ran == []
    assert bench.scheduler.waiting == 0
    assert bench.scheduler.predicted_wait() == 0
    assert expired.done()


def test_full_queue_refuses_at_the_door_and_says_when_to_come_back() -> None:
    bench = Bench(capacity=2)
    bench.submit("a", 10)
    bench.submit("b", 10)
    with pytest.raises(Overloaded, match="2 rows") as caught:
        bench.submit("c", 10)
    assert caught.value.retry_after == 2.0
    assert bench.scheduler.waiting == 2
    bench.drain()
    assert bench.submit("c", 10)


def test_row_that_is_predicted_to_be_late_is_refused_at_once() -> None:
    bench = Bench()
    bench.submit("a", 10)
    bench.submit("b", 10)
    with pytest.raises(Overloaded, match=r"3000 ms.*2900 ms") as caught:
        bench.submit("c", 10, deadline=2.9)
    assert caught.value.retry_after == 2.0
    assert bench.submit("c", 10, deadline=3.0)


def test_more_runners_predict_a_shorter_wait() -> None:
    bench = Bench(runners=2)
    bench.submit("a", 10)
    bench.submit("b", 10)
    assert bench.scheduler.predicted_wait() == 1.0
    assert bench.submit("c", 10, deadline=2.0)


def test_row_that_comes_after_its_deadline_is_not_queued() -> None:
    bench = Bench()
    bench.clock.advance(10)
    with pytest.raises(DeadlineExceeded):
        bench.submit("a", 10, deadline=10)
    assert bench.scheduler.waiting == 0


def test_rows_run_in_the_order_of_their_deadlines() -> None:
    bench = Bench(max_rows=1, patience=1000)
    for name, deadline in (("c", 90.0), ("d", None), ("a", 50.0), ("b", 70.0)):
        bench.submit(name, 10, deadline)
    bench.drain()
    assert bench.ran == [("a",), ("b",), ("c",), ("d",)]


def test_rows_of_equal_urgency_run_in_the_order_they_came() -> None:
    bench = Bench(max_rows=1)
    for name in "abcd":
        bench.submit(name, 10)
    bench.drain()
    assert bench.ran == [("a",), ("b",), ("c",), ("d",)]


@pytest.mark.parametrize("deadline", [None, 3600.0])
def test_row_is_passed_over_no_longer_than_the_patience(deadline: float | None) -> None:
    """More urgent rows keep coming; neither no deadline nor a far one means to wait for ever."""
    bench = Bench(max_rows=1, patience=10)
    bench.submit("patient", 10, deadline)
    for second in range(1, 20):
        bench.clock.advance(1)
        bench.submit(str(second), 10, bench.clock.now + 2)
        bench.step()
        if ("patient",) in bench.ran:
            break
    assert bench.ran[-1] == ("patient",)
    assert bench.clock.now <= 10


def test_short_rows_do_not_push_aside_an_old_long_one() -> None:
    bench = Bench(cost=per_token)
    bench.submit("long", 500)
    for number in range(50):
        bench.submit(str(number), 5)
    bench.step()
    assert "long" in bench.ran[0]


def test_batch_has_at_most_max_rows() -> None:
    bench = Bench(max_rows=3)
    for name in "abcdefgh":
        bench.submit(name, 10)
    bench.drain()
    assert [len(batch) for batch in bench.ran] == [3, 3, 2]


def test_batch_has_at_most_max_tokens_with_its_padding() -> None:
    bench = Bench(max_tokens=60, max_waste=100)
    for name, length in (("a", 20), ("b", 20), ("c", 20), ("d", 20)):
        bench.submit(name, length)
    bench.drain()
    assert [len(batch) for batch in bench.ran] == [3, 1]


def test_rows_of_equal_length_waste_nothing_however_many_they_are() -> None:
    bench = Bench(max_waste=1.0)
    for name in "abcdefgh":
        bench.submit(name, 10)
    bench.drain()
    assert [len(batch) for batch in bench.ran] == [8]


def test_row_over_the_token_budget_still_runs_alone() -> None:
    bench = Bench(max_tokens=60)
    future = bench.submit("huge", 600)
    bench.submit("small", 10)
    bench.drain()
    assert bench.ran == [("huge",), ("small",)]
    assert future.result(0) == "HUGE"


def test_rows_of_unlike_length_are_not_padded_together() -> None:
    bench = Bench(max_waste=1.5)
    for name, length in (("short", 10), ("long", 100), ("shorter", 9), ("longer", 104)):
        bench.submit(name, length)
    bench.drain()
    assert bench.ran == [("short", "shorter"), ("long", "longer")]


def test_where_batching_does_not_pay_rows_run_alone() -> None:
    bench = Bench(cost=lambda rows, length: length * rows**2)
    for name in "abc":
        bench.submit(name, 10)
    bench.drain()
    assert bench.ran == [("a",), ("b",), ("c",)]


def test_where_padding_costs_more_than_a_second_run_rows_run_alone() -> None:
    bench = Bench(cost=per_token, max_waste=100)
    bench.submit("a", 10)
    bench.submit("b", 11)
    bench.drain()
    assert bench.ran == [("a",), ("b",)]


def test_waiting_rows_are_shared_out_between_the_runners() -> None:
    bench = Bench(runners=2)
    for name in "abcd":
        bench.submit(name, 10)
    bench.step()
    assert bench.ran == [("a", "b")]
    bench.step()
    assert bench.ran[1] == ("c",)


def test_one_bad_row_does_not_fail_its_batch_mates() -> None:
    def answer(payloads: Sequence[str]) -> list[str]:
        if "bad" in payloads:
            raise ValueError("bad row")
        return in_capitals(payloads)

    bench = Bench(answer)
    good, bad, fine = (bench.submit(name, 10) for name in ("good", "bad", "fine"))
    bench.step()
    assert (good.result(0), fine.result(0)) == ("GOOD", "FINE")
    with pytest.raises(ValueError, match="bad row"):
        bad.result(0)
    later = bench.submit("later", 10)
    bench.step()
    assert later.result(0) == "LATER"


def test_answer_that_is_an_exception_fails_its_own_row_only() -> None:
    bench = Bench(lambda payloads: [KeyError(p) if p == "bad" else p for p in payloads])
    good, bad = bench.submit("good", 10), bench.submit("bad", 10)
    bench.step()
    assert good.result(0) == "good"
    assert isinstance(bad.exception(0), KeyError)


@pytest.mark.parametrize("answers", [[], ["only one"], ["one", "two", "three"]])
def test_run_that_gives_too_few_or_too_many_answers_leaves_no_row_waiting(answers: list[str]) -> None:
    bench = Bench(lambda payloads: answers if len(payloads) == 2 else [f"alone {payloads[0]}"])
    futures = [bench.submit("a", 10), bench.submit("b", 10)]
    bench.step()
    assert [future.result(0) for future in futures] == ["alone a", "alone b"]


def test_observer_is_told_lengths_waits_and_run_time() -> None:
    def answer(payloads: Sequence[str]) -> Sequence[str]:
        bench.clock.advance(0.25)
        return payloads

    bench = Bench(answer, max_waste=100)
    bench.submit("a", 10)
    bench.clock.advance(2)
    bench.submit("b", 30)
    bench.clock.advance(1)
    bench.step()
    (batch,) = bench.seen
    assert (batch.lengths, batch.waits, batch.seconds) == ((10, 30), (3.0, 1.0), 0.25)
    assert (batch.tokens, batch.padded) == (40, 60)


def test_close_answers_what_is_queued_and_refuses_what_comes_after() -> None:
    bench = Bench(runners=2, max_rows=1)
    futures = [bench.submit(str(number), 10) for number in range(20)]
    bench.scheduler.start()
    bench.scheduler.close()
    assert [future.result(0) for future in futures] == [str(number) for number in range(20)]
    with pytest.raises(NotReady):
        bench.submit("late", 10)


def test_runner_threads_answer_rows_that_come_while_they_run_and_survive_a_failing_one() -> None:
    bench = Bench(lambda payloads: [payload / 2 for payload in payloads], runners=2)
    bench.scheduler.start()
    try:
        futures: list[Future[Any]] = [bench.submit(number, 10) for number in (2, "two", 4, None, 6)]
        assert [futures[index].result(30) for index in (0, 2, 4)] == [1, 2, 3]
        assert isinstance(futures[1].exception(30), TypeError)
        assert isinstance(futures[3].exception(30), TypeError)
        assert bench.submit(8, 10).result(30) == 4
    finally:
        bench.scheduler.close()


def test_rows_whose_callers_left_hold_no_place() -> None:
    bench = Bench(capacity=2)
    for _ in range(2):
        bench.submit("gone", 10).cancel()
    future = bench.submit("here", 10)
    bench.drain()
    assert future.result() == "HERE"
    assert bench.ran == [("here",)]


def test_observer_that_fails_costs_nobody_an_answer() -> None:
    def observe(batch: Batch) -> None:
        raise RuntimeError("no metrics today")

    scheduler = Scheduler(in_capitals, per_run, Clock(), Limits(), observe=observe)
    future = scheduler.submit("a", 10)
    assert scheduler.step()
    assert future.result() == "A"


def test_row_whose_deadline_passed_in_a_run_that_failed_is_not_run_again() -> None:
    def answer(payloads: Sequence[str]) -> list[str]:
        bench.clock.advance(5)
        raise ValueError("spoilt")

    bench = Bench(answer)
    late, patient = bench.submit("late", 10, deadline=4), bench.submit("patient", 10)
    bench.step()
    assert bench.ran == [("late", "patient"), ("patient",)]
    assert isinstance(late.exception(0), DeadlineExceeded)
    assert isinstance(patient.exception(0), ValueError)


@pytest.mark.parametrize("error", [NotReady("away"), Overloaded("busy"), DeadlineExceeded("late")])
def test_error_that_no_row_is_to_blame_for_is_not_repeated_row_by_row(error: Exception) -> None:
    def answer(payloads: Sequence[str]) -> list[str]:
        raise error

    bench = Bench(answer)
    futures = [bench.submit(name, 10) for name in "abc"]
    bench.step()
    assert bench.ran == [("a", "b", "c")]
    assert all(future.exception(0) is error for future in futures)


def test_rows_whose_callers_left_make_nobody_late() -> None:
    bench = Bench()
    for _ in range(5):
        bench.submit("gone", 10).cancel()
    assert bench.submit("here", 10, deadline=2.0)

"""What a model's configuration asks of the scheduler: levels, queue policies, groups, delay and preferred sizes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from serving.errors import DeadlineExceeded, Overloaded
from serving.scheduler.limits import QueuePolicy
from tests.serving.test_scheduler import Bench

REFUSE = QueuePolicy(timeout=0.5, override=False)
PUT_OFF = QueuePolicy(timeout=5.0, reject=False)


def test_time_to_wait_is_not_the_time_of_the_run() -> None:
    """A run takes a second here: a row that may wait for half of one is answered, as long as a runner is idle."""
    bench = Bench(policy=REFUSE)
    future = bench.submit("a", 10)
    bench.step()
    assert future.result(0) == "A"


def test_row_that_waited_longer_than_its_policy_allows_is_told_so_and_not_run() -> None:
    bench = Bench(policy=REFUSE)
    future = bench.submit("a", 10)
    bench.clock.advance(0.5)
    bench.drain()
    assert bench.ran == []
    with pytest.raises(DeadlineExceeded):
        future.result(0)


def test_row_that_is_predicted_to_wait_too_long_is_refused_at_once() -> None:
    bench = Bench(policy=REFUSE)
    bench.submit("a", 10)
    with pytest.raises(Overloaded, match=r"2000 ms.*1500 ms") as caught:
        bench.submit("b", 10)
    assert caught.value.retry_after == 1.0


def test_deadline_of_the_answer_counts_beside_the_time_to_wait() -> None:
    bench = Bench(policy=QueuePolicy(timeout=50.0))
    with pytest.raises(Overloaded):
        bench.submit("a", 10, deadline=0.9)
    future = bench.submit("a", 10, deadline=1.1)
    bench.clock.advance(1.1)
    bench.drain()
    assert isinstance(future.exception(0), DeadlineExceeded)


@pytest.mark.parametrize(
    ("policy", "asked", "allowed"),
    [
        (QueuePolicy(timeout=5.0), 2.0, 2.0),
        (QueuePolicy(timeout=5.0), 9.0, 5.0),
        (QueuePolicy(timeout=5.0), None, 5.0),
        (QueuePolicy(timeout=5.0, override=False), 2.0, 5.0),
        (QueuePolicy(timeout=None), 2.0, 2.0),
        (QueuePolicy(timeout=None), None, None),
        (QueuePolicy(timeout=None, override=False), 2.0, None),
    ],
)
def test_request_may_shorten_its_wait_where_the_policy_lets_it(
    policy: QueuePolicy, asked: float | None, allowed: float | None
) -> None:
    bench = Bench(policy=policy)
    future = bench.submit("a", 10, wait=asked)
    if allowed is None:
        bench.clock.advance(1e6)
        bench.step()
        assert future.result(0) == "A"
        return
    bench.clock.advance(allowed - 0.01)
    assert not future.done()
    alive = bench.submit("b", 10, wait=asked)
    bench.clock.advance(0.01)
    bench.drain()
    assert isinstance(future.exception(0), DeadlineExceeded)
    assert alive.result(0) == "B"


def test_row_without_time_to_wait_at_all_is_not_queued() -> None:
    bench = Bench(policy=QueuePolicy())
    with pytest.raises(DeadlineExceeded):
        bench.submit("a", 10, wait=0.0)


def test_row_of_a_patient_policy_runs_after_all_others_of_its_level_once_it_waited_too_long() -> None:
    bench = Bench(max_rows=1, policy=PUT_OFF)
    late = bench.submit("late", 10)
    bench.clock.advance(5)
    bench.submit("new", 10)
    bench.submit("newer", 10)
    bench.drain()
    assert bench.ran == [("new",), ("newer",), ("late",)]
    assert late.result(0) == "LATE"


def test_row_of_a_patient_policy_still_has_the_deadline_of_its_answer() -> None:
    bench = Bench(policy=PUT_OFF)
    future = bench.submit("a", 10, deadline=8)
    bench.clock.advance(8)
    bench.drain()
    assert bench.ran == []
    assert isinstance(future.exception(0), DeadlineExceeded)


def test_row_that_was_put_off_comes_before_the_next_level() -> None:
    bench = Bench(max_rows=1, levels=2, level=1, policy=PUT_OFF)
    bench.submit("late", 10)
    bench.submit("lower", 10, priority=2)
    bench.clock.advance(5)
    bench.submit("new", 10)
    bench.drain()
    assert bench.ran == [("new",), ("late",), ("lower",)]


def test_more_urgent_level_runs_first_whatever_its_deadlines() -> None:
    bench = Bench(max_rows=1, levels=3, level=2, patience=1000)
    bench.submit("third", 10, deadline=10, priority=3)
    bench.submit("unsaid", 10, deadline=50)
    bench.submit("first", 10, priority=1)
    bench.submit("no such level", 10, deadline=60, priority=9)
    bench.drain()
    assert bench.ran == [("first",), ("unsaid",), ("no such level",), ("third",)]


def test_levels_have_policies_of_their_own() -> None:
    bench = Bench(levels=2, level=2, policies={1: QueuePolicy(timeout=1.0), 2: QueuePolicy(capacity=1)})
    urgent, common = bench.submit("urgent", 10, priority=1), bench.submit("common", 10, priority=2)
    with pytest.raises(Overloaded, match=r"1 rows"):
        bench.submit("one more", 10, priority=2)
    bench.clock.advance(1)
    bench.drain()
    assert isinstance(urgent.exception(0), DeadlineExceeded)
    assert common.result(0) == "COMMON"


def test_full_level_leaves_the_others_their_places_and_rows_whose_callers_left_hold_none() -> None:
    bench = Bench(levels=2, level=2, policies={2: QueuePolicy(capacity=2)})
    gone = bench.submit("gone", 10)
    bench.submit("a", 10)
    with pytest.raises(Overloaded):
        bench.submit("b", 10)
    assert bench.submit("urgent", 10, priority=1)
    gone.cancel()
    assert bench.submit("b", 10)
    assert bench.scheduler.waiting == 3


def test_wait_is_predicted_from_what_comes_before_the_level() -> None:
    bench = Bench(levels=3, level=3)
    for priority in (1, 2, 2, 3, 3, 3):
        bench.submit("row", 10, priority=priority)
    assert [bench.scheduler.predicted_wait(level) for level in (1, 2, 3, None)] == [1.0, 3.0, 6.0, 6.0]
    assert bench.submit("urgent", 10, deadline=2.0, priority=1)
    with pytest.raises(Overloaded) as caught:
        bench.submit("common", 10, deadline=2.0, priority=3)
    assert caught.value.retry_after == 7.0


def test_lower_level_does_not_go_along_while_a_higher_one_waits() -> None:
    bench = Bench(max_rows=3, levels=2, level=2)
    for name, length, priority in (("first", 10, 1), ("far", 90, 1), ("near", 10, 2)):
        bench.submit(name, length, priority=priority)
    bench.drain()
    assert bench.ran == [("first",), ("far",), ("near",)]


def test_lower_level_fills_up_the_batch_of_a_higher_one() -> None:
    bench = Bench(max_rows=3, levels=2, level=2)
    for name, priority in (("a", 2), ("first", 1), ("b", 2), ("second", 1), ("c", 2)):
        bench.submit(name, 10, priority=priority)
    bench.drain()
    assert bench.ran == [("first", "second", "a"), ("b", "c")]


def test_row_that_was_put_off_does_not_go_along_while_others_of_its_level_wait() -> None:
    bench = Bench(policy=PUT_OFF)
    bench.submit("late", 10)
    bench.clock.advance(5)
    bench.submit("new", 10)
    bench.submit("far", 90)
    bench.drain()
    assert bench.ran == [("new",), ("far",), ("late",)]


def test_row_is_held_back_for_company_as_long_as_the_delay_says_and_no_longer() -> None:
    bench = Bench(max_rows=4, delay=2.0)
    bench.submit("a", 10)
    bench.clock.advance(1.5)
    bench.submit("b", 10)
    assert not bench.step()
    bench.clock.advance(0.4)
    assert not bench.step()
    bench.clock.advance(0.1)
    assert bench.step()
    assert bench.ran == [("a", "b")]


def test_full_batch_is_not_held_back() -> None:
    bench = Bench(max_rows=3, delay=2.0)
    for name in "abcd":
        bench.submit(name, 10)
    bench.drain()
    assert bench.ran == [("a", "b", "c")]
    assert bench.scheduler.waiting == 1


def test_batch_of_any_preferred_size_is_not_held_back() -> None:
    bench = Bench(max_rows=16, preferred=(8, 4), delay=2.0)
    for name in "abcde":
        bench.submit(name, 10)
    bench.drain()
    assert bench.ran == [("a", "b", "c", "d")]
    assert bench.scheduler.waiting == 1


def test_largest_preferred_size_that_can_be_had_is_formed() -> None:
    bench = Bench(preferred=(2, 4, 8))
    for name in "abcdefghijklmno":
        bench.submit(name, 10)
    bench.drain()
    assert [len(batch) for batch in bench.ran] == [8, 4, 2, 1]


def test_rows_too_few_for_a_preferred_size_run_at_once_without_a_delay() -> None:
    bench = Bench(preferred=(4,))
    for name in "abc":
        bench.submit(name, 10)
    bench.step()
    assert bench.ran == [("a", "b", "c")]


@pytest.mark.parametrize(
    "limits", [{"preferred": (4,)}, {"preferred": (4,), "delay": 2.0}, {"max_rows": 4, "delay": 2}]
)
def test_batch_that_was_waited_for_is_not_split_between_the_runners(limits: dict[str, object]) -> None:
    bench = Bench(runners=2, **limits)
    for name in "abcd":
        bench.submit(name, 10)
    bench.step()
    assert bench.ran == [("a", "b", "c", "d")]


def test_row_that_runs_alone_anyway_is_not_held_back() -> None:
    """Where batch mates change an answer, the engine allows one row a run, whatever sizes are preferred."""
    bench = Bench(max_rows=1, preferred=(4,), delay=2.0)
    bench.submit("a", 10)
    assert bench.step()


def test_row_that_may_not_wait_so_long_is_not_held_back_and_takes_the_others_along() -> None:
    bench = Bench(delay=2.0)
    bench.submit("patient", 10)
    assert not bench.step()
    hurried = bench.submit("hurried", 10, deadline=2.5)
    assert bench.step()
    assert bench.ran == [("hurried", "patient")]
    assert hurried.result(0) == "HURRIED"


def test_row_whose_queue_time_is_shorter_than_the_delay_is_not_held_back() -> None:
    bench = Bench(delay=2.0, policy=QueuePolicy(timeout=1.0))
    future = bench.submit("a", 10)
    assert bench.step()
    assert future.result(0) == "A"


def test_callers_that_left_are_no_company() -> None:
    bench = Bench(preferred=(3,), delay=2.0)
    for _ in range(2):
        bench.submit("gone", 10).cancel()
    bench.submit("here", 10)
    assert not bench.step()
    bench.clock.advance(2)
    bench.step()
    assert bench.ran == [("here",)]


def test_runner_that_holds_rows_back_wakes_when_the_batch_is_full() -> None:
    bench = Bench(runners=2, max_rows=4, delay=3600)
    bench.scheduler.start()
    futures = [bench.submit(name, 10) for name in "abcd"]
    assert [future.result(30) for future in futures] == list("ABCD")
    assert bench.ran == [("a", "b", "c", "d")]
    bench.scheduler.close()


def test_runner_that_holds_rows_back_wakes_for_one_that_cannot_wait() -> None:
    bench = Bench(runners=2, delay=3600)
    bench.scheduler.start()
    patient, hurried = bench.submit("patient", 10), bench.submit("hurried", 10, deadline=5)
    assert hurried.result(30) == "HURRIED"
    bench.scheduler.close()
    assert patient.result(0) == "PATIENT"


def test_close_does_not_wait_for_the_delay() -> None:
    bench = Bench(delay=3600)
    bench.scheduler.start()
    future = bench.submit("a", 10)
    bench.scheduler.close()
    assert future.result(0) == "A"


def test_rows_of_different_requests_do_not_meet_where_they_must_not() -> None:
    bench = Bench(across=False)
    one, other = object(), object()
    for name, group in (("a", one), ("b", other), ("c", one), ("d", other)):
        bench.submit(name, 10, group=group)
    bench.drain()
    assert bench.ran == [("a", "c"), ("b", "d")]


def test_rows_that_are_submitted_together_can_meet_although_a_runner_is_idle() -> None:
    bench = Bench()
    bench.scheduler.start()
    with bench.scheduler.held():
        futures = [bench.submit(name, 10) for name in "abc"]
    assert [future.result(30) for future in futures] == ["A", "B", "C"]
    bench.scheduler.close()
    assert bench.ran == [("a", "b", "c")]


def test_row_that_began_in_time_is_run_alone_after_its_batch_failed_however_long_that_took() -> None:
    def answer(payloads: Sequence[str]) -> list[str]:
        bench.clock.advance(5)
        if "bad" in payloads:
            raise ValueError("bad row")
        return list(payloads)

    bench = Bench(answer, policy=QueuePolicy(timeout=4.0))
    good, bad = bench.submit("good", 10), bench.submit("bad", 10)
    bench.step()
    assert good.result(0) == "good"
    assert isinstance(bad.exception(0), ValueError)

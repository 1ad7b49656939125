"""What a version did, counted as Triton counts it."""

from __future__ import annotations

from serving.call import Call, Timing
from serving.statistics import Statistics, summed_by_key


def timing(begun: int, decoded: int) -> Timing:
    """Received at 0, queued at 1; two for stacking, one for decoding."""
    return Timing(0, 1, begun, begun + 2, decoded - 1, decoded)


def test_fresh_version_has_done_nothing() -> None:
    found = Statistics().snapshot()
    assert (found["last_inference"], found["inference_count"], found["execution_count"]) == (0, 0, 0)
    assert found["batch_stats"] == []
    assert all(stage == {"count": 0, "ns": 0} for stage in found["inference_stats"].values())


def test_request_of_three_rows_is_one_success_and_three_inferences_with_the_times_of_its_last_row() -> None:
    statistics = Statistics(now=lambda: 12.345)
    statistics.run(2, 2, 5, 1)
    statistics.run(1, 2, 9, 1)
    call = Call(timings=[timing(10, 18), timing(10, 18), timing(20, 32)])
    statistics.succeeded(call, 40, cached=False)
    found = statistics.snapshot()
    assert (found["last_inference"], found["inference_count"], found["execution_count"]) == (12345, 3, 2)
    assert found["inference_stats"]["success"] == {"count": 1, "ns": 40}
    assert found["inference_stats"]["queue"] == {"count": 1, "ns": 19}
    assert found["inference_stats"]["compute_input"] == {"count": 1, "ns": 3}
    assert found["inference_stats"]["compute_infer"] == {"count": 1, "ns": 9}
    assert found["inference_stats"]["compute_output"] == {"count": 1, "ns": 1}
    one, two = found["batch_stats"]
    assert (one["batch_size"], one["compute_infer"]) == (1, {"count": 1, "ns": 9})
    assert (two["batch_size"], two["compute_infer"]) == (2, {"count": 1, "ns": 5})


def test_failure_is_no_success_and_no_inference() -> None:
    statistics = Statistics()
    statistics.failed(7)
    found = statistics.snapshot()
    assert found["inference_stats"]["fail"] == {"count": 1, "ns": 7}
    assert found["inference_stats"]["success"]["count"] == found["inference_count"] == 0


def test_answer_from_the_cache_is_a_success_without_a_run() -> None:
    statistics = Statistics()
    statistics.succeeded(Call(looked_up=3), 5, cached=True)
    statistics.succeeded(Call(timings=[timing(10, 18)], looked_up=4), 20, cached=True)
    found = statistics.snapshot()["inference_stats"]
    assert found["cache_hit"] == {"count": 1, "ns": 3}
    assert found["cache_miss"] == {"count": 1, "ns": 4}
    assert found["success"]["count"] == 2
    assert statistics.snapshot()["inference_count"] == 1


def test_figures_of_several_processes_are_added_by_version_and_by_batch_size() -> None:
    one, other = Statistics(now=lambda: 2.0), Statistics(now=lambda: 1.0)
    one.run(1, 2, 5, 1)
    one.succeeded(Call(timings=[timing(10, 18)]), 40, cached=False)
    other.run(1, 3, 6, 2)
    other.run(4, 1, 1, 1)
    other.succeeded(Call(timings=[timing(10, 18)] * 5), 50, cached=False)
    other.failed(7)
    whole = summed_by_key([{"a": one.snapshot()}, {"a": other.snapshot(), "b": one.snapshot()}])
    assert whole["b"] == one.snapshot()
    found = whole["a"]
    assert (found["last_inference"], found["inference_count"], found["execution_count"]) == (2000, 6, 3)
    assert found["inference_stats"]["success"] == {"count": 2, "ns": 90}
    assert found["inference_stats"]["fail"] == {"count": 1, "ns": 7}
    assert [(batch["batch_size"], batch["compute_infer"]) for batch in found["batch_stats"]] == [
        (1, {"count": 2, "ns": 11}),
        (4, {"count": 1, "ns": 1}),
    ]

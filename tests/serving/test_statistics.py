"""What a version did, counted as Triton counts it."""

from __future__ import annotations

from serving.call import Call, Timing
from serving.statistics import Statistics


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

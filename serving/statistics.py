"""What one model version did, counted as Triton counts it (statistics extension of KServe v2)."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serving.call import Call

# What of the figures is no count.
LATEST = "last_inference"
STAGES = ("compute_input", "compute_infer", "compute_output")
DURATIONS = ("success", "fail", "queue", *STAGES, "cache_hit", "cache_miss")


class Statistics:
    """Counts and nanoseconds per stage, of requests and of runs; safe to use from several threads."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._spent: Counter[str] = Counter()
        self._batches: dict[int, Counter[str]] = {}
        self._rows = 0
        self._last = 0

    def run(self, rows: int, compute_input: int, compute_infer: int, compute_output: int) -> None:
        """Count one run of the graph with that many rows; times in nanoseconds."""
        with self._lock:
            batch = self._batches.setdefault(rows, Counter())
            batch["count"] += 1
            for stage, spent in zip(STAGES, (compute_input, compute_infer, compute_output), strict=True):
                batch[stage] += spent

    def succeeded(self, call: Call, spent: int, *, cached: bool) -> None:
        """Count an answered request that took ``spent`` nanoseconds; ``cached`` where a cache was asked first."""
        with self._lock:
            self._last = round(self._now() * 1000)
            self._rows += len(call.timings)
            self._add("success", spent)
            timing = call.timing
            if timing:
                for stage in ("queue", *STAGES):
                    self._add(stage, getattr(timing, stage))
            if cached:
                self._add("cache_miss" if timing else "cache_hit", call.looked_up)

    def failed(self, spent: int) -> None:
        """Count a request that reached the model and got no answer."""
        with self._lock:
            self._add("fail", spent)

    def _add(self, name: str, spent: int) -> None:
        self._counts[name] += 1
        self._spent[name] += spent

    def snapshot(self) -> dict[str, Any]:
        """The figures in the JSON form of the statistics extension, without name and version."""
        with self._lock:
            return {
                "last_inference": self._last,
                "inference_count": self._rows,
                "execution_count": sum(batch["count"] for batch in self._batches.values()),
                "inference_stats": {name: {"count": self._counts[name], "ns": self._spent[name]} for name in DURATIONS},
                "batch_stats": [
                    {"batch_size": rows, **{s: {"count": batch["count"], "ns": batch[s]} for s in STAGES}}
                    for rows, batch in sorted(self._batches.items())
                ],
            }


def summed_by_key(told: Sequence[Mapping[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Snapshots by key of several processes as those of one."""
    whole: dict[str, dict[str, Any]] = {}
    for key, snapshot in (item for one in told for item in one.items()):
        whole[key] = _summed(whole[key], snapshot) if key in whole else snapshot
    return whole


def _summed(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Two snapshots as one, or two parts of them."""
    return {name: _joined(name, one.get(name), other.get(name)) for name in {**one, **other}}


def _joined(name: str, one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, dict):
        return _summed(one, other)
    if isinstance(one, list):
        batches = summed_by_key([{str(batch["batch_size"]): batch} for batch in (*one, *other)])
        return sorted(batches.values(), key=lambda batch: int(batch["batch_size"]))
    return max(one, other) if name in (LATEST, "batch_size") else one + other

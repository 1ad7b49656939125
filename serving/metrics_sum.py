"""The metrics of several processes as one: counters and histograms added, gauges as what they measure asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# How two values of a gauge make one; what is no gauge is added.
GAUGES: dict[str, Callable[[float, float], float]] = {
    "downstream_waiting_rows": lambda a, b: a + b,
    "downstream_predicted_wait_seconds": max,
    "downstream_model_ready": min,
    "downstream_model_load_seconds": max,
    "downstream_model_info": max,
    "downstream_shared_rows": lambda a, b: a + b,
    "downstream_response_cache_pays": min,
}


def lasting(families: Iterable[Metric]) -> list[Metric]:
    """What stays true of a process that ended: what it counted, and no gauge."""
    return [family for family in families if family.type != "gauge"]


def summed(told: Sequence[Iterable[Metric]]) -> list[Metric]:
    """The families of all processes as those of one."""
    if len(told) == 1:
        return list(told[0])
    families: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in (family for one in told for family in one):
        families.setdefault(family.name, family)
        found = values.setdefault(family.name, {})
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            joined = min if sample.name.endswith("_created") else GAUGES.get(family.name, lambda a, b: a + b)
            found[key] = joined(found[key], sample.value) if key in found else sample.value
    result = []
    for name, family in families.items():
        whole = Metric(name, family.documentation, family.type, family.unit)
        for (exposition, labels), value in values[name].items():
            whole.add_sample(exposition, dict(labels), value)
        result.append(whole)
    return result


class _Collected(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposed(families: Sequence[Metric]) -> CollectorRegistry:
    """A registry that gives these families."""
    registry = CollectorRegistry()
    registry.register(_Collected(families))
    return registry

"""Metrics of several processes as one: what is added, and what is not."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import Metrics
from serving.metrics_sum import GAUGES, exposed, lasting, summed
from serving.scheduler.runners import Batch


def process(rows: int, waiting: float, wait: float, ready: int) -> Metrics:
    metrics = Metrics(CollectorRegistry())
    metrics.observe("intent", Batch(lengths=(4,) * rows, waits=(0.002,) * rows, seconds=0.02))
    metrics.requests.labels("intent", "http", "ok").inc(rows)
    metrics.waiting_rows.labels("intent").set(waiting)
    metrics.predicted_wait.labels("intent").set(wait)
    metrics.ready.labels("intent", "1").set(ready)
    metrics.load_seconds.labels("intent", "1").set(wait)
    metrics.info.labels("intent", "1", "sha256:1", "int8", "text-classification").set(1)
    return metrics


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, {"model": "intent", **labels})


def test_counters_and_histograms_are_added_and_gauges_are_what_they_mean() -> None:
    whole = exposed(summed([process(*told).registry.collect() for told in ((1, 2, 0.5, 1), (3, 5, 0.25, 0))]))
    assert sample(whole, "downstream_requests_total", protocol="http", outcome="ok") == 4
    assert sample(whole, "downstream_tokens_total") == 16
    assert sample(whole, "downstream_queue_seconds_count") == 4
    assert sample(whole, "downstream_batch_rows_bucket", le="1.0") == 1
    assert sample(whole, "downstream_batch_rows_bucket", le="+Inf") == 2
    assert sample(whole, "downstream_waiting_rows") == 7
    assert sample(whole, "downstream_predicted_wait_seconds") == 0.5
    assert sample(whole, "downstream_model_load_seconds", version="1") == 0.5
    assert sample(whole, "downstream_model_ready", version="1") == 0
    known = {"version": "1", "digest": "sha256:1", "precision": "int8", "task": "text-classification"}
    assert sample(whole, "downstream_model_info", **known) == 1, "it is one version, whoever answers"


def test_of_a_process_that_ended_only_its_counts_are_added() -> None:
    ended, here = (list(process(*told).registry.collect()) for told in ((1, 2, 0.5, 1), (3, 5, 0.25, 1)))
    whole = exposed(summed([lasting(ended), here]))
    assert sample(whole, "downstream_requests_total", protocol="http", outcome="ok") == 4
    assert sample(whole, "downstream_waiting_rows") == 5


def test_series_that_one_process_alone_has_are_kept_and_the_text_is_well_formed() -> None:
    other = Metrics(CollectorRegistry())
    other.requests.labels("topic", "grpc", "ok").inc()
    text = generate_latest(exposed(summed([process(1, 0, 0, 1).registry.collect(), other.registry.collect()]))).decode()
    alone = generate_latest(process(1, 0, 0, 1).registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    expected = {family.name: family for family in text_string_to_metric_families(alone)}
    assert {name: (f.type, f.documentation) for name, f in families.items()} == {
        name: (f.type, f.documentation) for name, f in expected.items()
    }
    assert {found.labels["model"] for found in families["downstream_requests"].samples} == {"intent", "topic"}


def test_every_gauge_says_how_it_is_joined() -> None:
    gauges = {family.name for family in Metrics(CollectorRegistry()).registry.collect() if family.type == "gauge"}
    assert gauges == set(GAUGES)

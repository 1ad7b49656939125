"""Every metric of the server, declared once, on a registry that is passed in."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.manifest import Manifest
from serving.scheduler.runners import Batch

# Seconds: half a millisecond to ten seconds, fine enough to read a p99 of a small encoder.
SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Prometheus metrics; names of models are label values only once the model is in the repository."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "downstream_requests", "Requests by outcome", ["model", "protocol", "outcome"], registry=registry
        )
        self.request_seconds = Histogram(
            "downstream_request_seconds", "From the parsed request to the answer",
            ["model", "protocol"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.queue_seconds = Histogram(
            "downstream_queue_seconds", "Time a row waited for a runner", ["model"], buckets=SECONDS, registry=registry
        )
        self.run_seconds = Histogram(
            "downstream_run_seconds", "Time of one run of the graph, with decoding",
            ["model"], buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.batch_rows = Histogram(
            "downstream_batch_rows", "Rows that ran together", ["model"], buckets=ROWS, registry=registry
        )
        self.tokens = Counter("downstream_tokens", "Tokens of the rows that ran", ["model"], registry=registry)
        self.padded_tokens = Counter(
            "downstream_padded_tokens", "Tokens that were computed, padding included", ["model"], registry=registry
        )
        self.waiting_rows = Gauge("downstream_waiting_rows", "Rows in the queue", ["model"], registry=registry)
        self.predicted_wait = Gauge(
            "downstream_predicted_wait_seconds", "Predicted wait of a row that comes now", ["model"], registry=registry
        )
        self.shared_rows = Gauge(
            "downstream_shared_rows", "Rows that the run of an equal row in flight answered", ["model"],
            registry=registry,
        )  # fmt: skip
        self.response_cache_pays = Gauge(
            "downstream_response_cache_pays", "0 while answers are not looked up, since hits save less than that takes",
            ["model"], registry=registry,
        )  # fmt: skip
        self.ready = Gauge(
            "downstream_model_ready", "1 if the version answers", ["model", "version"], registry=registry
        )
        self.quarantined = Counter(
            "downstream_quarantined", "Versions refused at load", ["model", "version"], registry=registry
        )
        self.load_seconds = Gauge(
            "downstream_model_load_seconds", "Time to load, warm up and verify", ["model", "version"], registry=registry
        )

        self.info = Gauge(
            "downstream_model_info", "1 for every version that answers: what it is",
            ["model", "version", "digest", "precision", "task"], registry=registry,
        )  # fmt: skip

    def describe(self, manifest: Manifest) -> None:
        """Tell what a version is, from when it answers until ``forget``."""
        self.info.labels(*_labels(manifest)).set(1)

    def forget(self, manifest: Manifest) -> None:
        """Tell nothing more of a version."""
        self.info.remove(*_labels(manifest))

    def observe(self, model: str, batch: Batch) -> None:
        """Count one finished run."""
        self.run_seconds.labels(model).observe(batch.seconds)
        self.batch_rows.labels(model).observe(len(batch.lengths))
        self.tokens.labels(model).inc(batch.tokens)
        self.padded_tokens.labels(model).inc(batch.padded)
        waits = self.queue_seconds.labels(model)
        for wait in batch.waits:
            waits.observe(wait)


def _labels(manifest: Manifest) -> tuple[str, ...]:
    return manifest.name, str(manifest.version), manifest.digest, manifest.precision, manifest.task

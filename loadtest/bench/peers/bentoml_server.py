"""BentoML: adaptive batching of up to 32 requests, ``workers`` processes; started with ``bentoml serve``.

Settings from BentoML's documentation (docs.bentoml.com, "Adaptive batching" and "Parallelize requests handling"):
``batchable=True``, ``max_batch_size``, ``workers``. How long a batch waits is learned by BentoML; ``max_latency_ms`` is
the bound above which it refuses, and is set so high that it does not. Its access log and its traces are off.
"""

from __future__ import annotations

from typing import Any

import bentoml

from loadtest.bench.peers import padded


@bentoml.service(
    workers=padded.workers(),
    traffic={"timeout": 60, "max_concurrency": 1024},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Classifier:
    """One worker process."""

    def __init__(self) -> None:
        self._classify = padded.from_environment()

    @bentoml.api(batchable=True, max_batch_size=padded.MAX_BATCH, max_latency_ms=60_000)
    def classify(self, texts: list[str]) -> list[dict[str, Any]]:
        """The answers of a batch; a caller sends a list of one text."""
        return self._classify(texts)

"""Ray Serve: ``@serve.batch`` of up to 32 requests or 10 ms, one replica a core.

Settings from Ray's documentation (docs.ray.io, "Dynamic Request Batching" and "Performance Tuning"):
``max_batch_size``, ``batch_wait_timeout_s`` (its default), ``num_replicas`` with ``num_cpus``, and
``max_ongoing_requests`` of at least the batch size, as it asks for. Dashboard, access log and usage statistics are off,
and the workers are not niced, since the load generator shares their cores.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from loadtest.bench.peers import padded


class Classifier:
    """One replica."""

    def __init__(self) -> None:
        self._classify = padded.from_environment()

    @serve.batch(max_batch_size=padded.MAX_BATCH, batch_wait_timeout_s=padded.WAIT_SECONDS)
    async def answers(self, texts: list[str]) -> list[dict[str, Any]]:
        """The answers of a batch."""
        return self._classify(texts)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """One answer."""
        answer: dict[str, Any] = await self.answers((await request.json())["text"])
        return answer


if __name__ == "__main__":
    given = {name: value for name, value in os.environ.items() if name.startswith("BENCH_")}
    environment = {"env_vars": given | {"PYTHONPATH": os.getcwd()}}
    ray.init(num_cpus=padded.workers(), include_dashboard=False, log_to_driver=False, runtime_env=environment)
    address = {"host": "127.0.0.1", "port": padded.ports()[0]}
    serve.start(http_options=address, logging_config={"enable_access_log": False})
    deployment = serve.deployment(
        num_replicas=padded.workers(),
        # Ray's own actors (controller, proxy) ask for no core.
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=4 * padded.MAX_BATCH,
    )
    serve.run(deployment(Classifier).bind())
    signal.pause()

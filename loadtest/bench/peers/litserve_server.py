"""LitServe: batches of up to 32 requests or 10 ms, ``workers_per_device`` processes, the fast queue.

Settings from LitServe's documentation (lightning.ai/docs/litserve, "Batching" and "LitServer"): ``max_batch_size``,
``batch_timeout``, ``workers_per_device`` on the accelerator "cpu", and ``fast_queue=True`` (ZeroMQ instead of
multiprocessing queues), which it recommends for high load.
"""

from __future__ import annotations

from typing import Any

import litserve

from loadtest.bench.peers import padded


class Classify(litserve.LitAPI):
    """One worker process."""

    def setup(self, device: str) -> None:
        """Load the graph."""
        self._classify = padded.from_environment()

    def decode_request(self, request: dict[str, str]) -> str:
        """The text of a request body."""
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        """The texts as they came."""
        return inputs

    def predict(self, inputs: list[str]) -> list[dict[str, Any]]:
        """The answers of a batch."""
        return self._classify(inputs)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One answer a request."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """The answer as JSON."""
        return output


if __name__ == "__main__":
    api = Classify(max_batch_size=padded.MAX_BATCH, batch_timeout=padded.WAIT_SECONDS)
    server = litserve.LitServer(
        api, accelerator="cpu", devices=1, workers_per_device=padded.workers(), fast_queue=True, timeout=60
    )
    server.run(
        host="127.0.0.1", port=padded.ports()[0], num_api_servers=1, log_level="warning", generate_client_file=False
    )

"""mosec: one stage that batches up to 32 requests or 10 ms, ``num`` worker processes.

Settings from mosec's documentation (mosecorg.github.io/mosec, "Interface", ``append_worker``) and its example
``distil_bert_server_pytorch.py``: ``max_batch_size=32``, padding to the longest; ``max_wait_time`` is the documented
default of the batcher, 10 ms. The example's second stage, for tokenizing, is left out: it costs a copy between
processes. The default time-out of 3 s is raised, so that a slow answer is measured and not refused.
"""

from __future__ import annotations

import json
import os
from typing import Any

from mosec import Server, Worker

from loadtest.bench.peers import padded


class Classify(Worker):
    """One worker process."""

    def __init__(self) -> None:
        super().__init__()
        self._classify = padded.from_environment()

    def deserialize(self, data: bytes) -> str:
        """The text of a request body."""
        text: str = json.loads(data)["text"]
        return text

    def forward(self, data: list[str]) -> list[dict[str, Any]]:
        """The answers of a batch."""
        return self._classify(data)


if __name__ == "__main__":
    os.environ.update(MOSEC_PORT=str(padded.ports()[0]), MOSEC_ADDRESS="127.0.0.1", MOSEC_TIMEOUT="60000",
                      MOSEC_LOG_LEVEL="warning")  # fmt: skip
    server = Server()
    wait = round(1000 * padded.WAIT_SECONDS)
    server.append_worker(Classify, num=padded.workers(), max_batch_size=padded.MAX_BATCH, max_wait_time=wait)
    server.run()

"""MLServer: adaptive batching of up to 32 requests or 10 ms, ``parallel_workers`` processes; by ``mlserver start``.

Settings from MLServer's documentation (docs.seldon.ai/mlserver, "Adaptive Batching" and "Parallel Inference"):
``max_batch_size`` and ``max_batch_time`` in model-settings.json, ``parallel_workers`` in settings.json.
Its gRPC and metrics ports are there as always but not asked.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from loadtest.bench.peers import padded


class Classifier(MLModel):
    """One worker process."""

    async def load(self) -> bool:
        """Load the graph."""
        self._classify = padded.from_environment()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The answers of a batch, which MLServer made one request of."""
        answers = self._classify(StringCodec.decode_input(payload.inputs[0]))
        logits = np.array([answer["logits"] for answer in answers], np.float32)
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("label", [answer["label"] for answer in answers]),
                NumpyCodec.encode_output("logits", logits),
            ],
        )


def write_settings(folder: Path) -> None:
    """The two files that MLServer reads."""
    http, grpc, metrics = padded.ports()
    server = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": padded.workers() if padded.workers() > 1 else 0,
        "metrics_dir": str(folder / "metrics"),
        "debug": False,
    }
    model = {
        "name": "classifier",
        "implementation": "loadtest.bench.peers.mlserver_server.Classifier",
        "max_batch_size": padded.MAX_BATCH,
        "max_batch_time": padded.WAIT_SECONDS,
    }
    (folder / "settings.json").write_text(json.dumps(server), "utf-8")
    (folder / "model-settings.json").write_text(json.dumps(model), "utf-8")


if __name__ == "__main__":
    home = Path(os.environ["BENCH_HOME"])
    write_settings(home)
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(home)])  # noqa: S606 - the documented way to start it

"""What every peer does with a batch: pad it to its longest text and run it, as the frameworks' examples do."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

MAX_BATCH = 32
# The default of mosec and of Ray Serve, and a usual value in the documentation of the others.
WAIT_SECONDS = 0.01
ATTRIBUTES = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}


class PaddedClassifier:
    """The graph of one version directory, run by the calling thread alone."""

    def __init__(self, folder: Path) -> None:
        settings = json.loads((folder / "assets" / "text.json").read_text("utf-8"))
        self._arrays = settings["arrays"]
        self._labels = json.loads((folder / "assets" / "labels.json").read_text("utf-8"))
        self._tokenizer = Tokenizer.from_file(str(folder / "assets" / "tokenizer.json"))
        self._tokenizer.enable_truncation(settings["max_length"])
        self._tokenizer.enable_padding(pad_id=settings["pad_id"])
        options = ort.SessionOptions()
        # As many processes as cores ran 1.25 (mixed) to 1.5 times (short) as many rows, in padded batches of 32, as one
        # process with as many threads inside a run.
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def __call__(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """``{"label": name, "logits": [FP32, ...]}`` of every text."""
        encodings = self._tokenizer.encode_batch(list(texts))
        feeds = {name: np.array([getattr(one, ATTRIBUTES[name]) for one in encodings], np.int64)
                 for name in self._arrays}  # fmt: skip
        (logits,) = self._session.run(["logits"], feeds)
        return [{"label": self._labels[int(row.argmax())], "logits": row.tolist()} for row in logits]


def from_environment() -> PaddedClassifier:
    """The classifier that the bench asks for, which reaches worker processes through the environment."""
    return PaddedClassifier(Path(os.environ["BENCH_BUNDLE"]))


def ports() -> list[int]:
    """The port to listen on, and two more for a framework that wants them."""
    return [int(port) for port in os.environ["BENCH_PORTS"].split()]


def workers() -> int:
    """How many processes run the graph."""
    return int(os.environ["BENCH_WORKERS"])

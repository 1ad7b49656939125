"""Triton: a Python-backend model with the dynamic batcher, ``instance_group`` processes.

Settings from Triton's documentation (docs.nvidia.com, "Dynamic Batcher", and python_backend's README): one ``execute``
gets all requests of a dynamic batch, joins and pads them, runs once and splits the answers; ``max_batch_size: 32`` and
``dynamic_batching`` with a delay of 100 microseconds. Not the backend of this project.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from loadtest.bench.peers.padded import PaddedClassifier


class TritonPythonModel:
    """One instance, in a process of its own; Triton finds the class by this name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph that ``config.pbtxt`` names."""
        given: dict[str, Any] = json.loads(args["model_config"])["parameters"]
        self._classify = PaddedClassifier(Path(given["bundle"]["string_value"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One answer a request; a request may hold several rows."""
        groups = [pb.get_input_tensor_by_name(one, "text").as_numpy().ravel() for one in requests]
        answers = iter(self._classify([text.decode() for group in groups for text in group]))
        responses = []
        for group in groups:
            own = [next(answers) for _ in group]
            label = np.array([[answer["label"]] for answer in own], np.object_)
            logits = np.array([answer["logits"] for answer in own], np.float32)
            responses.append(pb.InferenceResponse([pb.Tensor("label", label), pb.Tensor("logits", logits)]))
        return responses

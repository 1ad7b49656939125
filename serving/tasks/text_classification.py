"""Text classification: one text, or a pair of texts, gets one label."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from serving import calibration, scoring
from serving.errors import BundleError, InvalidInput, fault
from serving.modality.text import TextEncoder
from serving.tensors import Field, Graph, Row, Tensors

LABELS = "labels.json"
PAIR = "Parcels are sometimes left next door."


class TextClassification:
    """Sentiment, topic, intent, routing, entailment: a row's ``label`` is one name out of a closed list."""

    auto_class = "AutoModelForSequenceClassification"
    inputs: tuple[Field, ...] = (
        Field("text", "BYTES", doc="The text to classify, UTF-8."),
        Field("text_pair", "BYTES", doc="The second text of a pair.", optional=True),
    )
    targets = (Field("label", "BYTES", doc="The name of the right class."),)
    outputs = (
        Field("label", "BYTES", doc="The name of the most probable class."),
        Field("score", "FP32", doc="The probability of that class."),
        Field("probabilities", "FP32", ("labels",), doc="The probability of every class, calibrated; they sum to 1."),
        Field("logits", "FP32", ("labels",), doc="The raw scores of every class."),
    )
    example: Row = {"text": "The courier left my parcel with a neighbour and nobody told me, thank you anyway."}

    def __init__(self, encoder: TextEncoder, labels: Sequence[str], temperature: float = 1.0) -> None:
        self._encoder, self.temperature = encoder, temperature
        text, text_pair = type(self).inputs
        # A model that was trained on pairs needs both; one that never saw a pair takes none.
        pairs = {"never": (), "sometimes": (text_pair,), "always": (replace(text_pair, optional=False),)}
        self.inputs: tuple[Field, ...] = (text, *pairs[encoder.settings.pair])
        self.example = {**type(self).example, **({"text_pair": PAIR} if encoder.settings.pair == "always" else {})}
        self._index = {label: position for position, label in enumerate(labels)}
        self.labels = tuple(labels)
        self.graphs = {"model": Graph(encoder.fields, (Field("logits", "FP32", ("labels",)),))}
        self.axes: Mapping[str, Sequence[str]] = {"labels": self.labels}
        self.max_sizes: Mapping[str, int] = {"length": encoder.settings.max_length}

    @classmethod
    def learn(cls, rows: Sequence[Row]) -> Mapping[str, Any]:
        return {LABELS: sorted({str(row["label"]) for row in rows})}

    @classmethod
    def open(cls, assets: Path) -> Self:
        try:
            labels = json.loads((assets / LABELS).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"{assets / LABELS}: cannot be read: {error}") from error
        if len(labels) < 2 or len(set(labels)) != len(labels):
            raise BundleError(f"{assets / LABELS}: must list at least two different labels, got {labels!r}")
        return cls(TextEncoder.open(assets), labels, calibration.read_temperature(assets))

    def model_config(self) -> Mapping[str, Any]:
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": dict(self._index),
            "problem_type": "single_label_classification",
        }

    def encode(self, row: Row) -> Tensors:
        return self._encoder.encode(row["text"], row.get("text_pair"))

    def decode(self, encoded: Tensors, outputs: Tensors) -> Row:
        logits = outputs["logits"]
        probabilities = scoring.softmax(logits / np.float32(self.temperature))
        best = int(logits.argmax())
        return {
            "label": self.labels[best],
            "score": probabilities[best],
            "probabilities": probabilities,
            "logits": logits,
        }

    def label(self, row: Row) -> Tensors:
        if row["label"] not in self._index:
            raise InvalidInput(
                fault("label", "unknown label", row["label"], f"the labels are {', '.join(self.labels)}")
            )
        return {"labels": np.array(self._index[row["label"]], np.int64)}

    def score(self, predicted: Sequence[Row], expected: Sequence[Row]) -> dict[str, Any]:
        return scoring.classification(
            [row["label"] for row in predicted], [row["label"] for row in expected], self.labels
        )

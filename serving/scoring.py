"""Metrics and their intervals, from predictions alone: numpy, no framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from serving.tensors import Array


def confusion(predicted: Sequence[str], expected: Sequence[str], labels: Sequence[str]) -> Array:
    """Counts of shape [labels, labels], INT64: rows are the expected label, columns the predicted one."""
    index = {label: position for position, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), np.int64)
    np.add.at(counts, ([index[label] for label in expected], [index[label] for label in predicted]), 1)
    return counts


def classification(predicted: Sequence[str], expected: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro F1, MCC, figures per class and the confusion matrix.

    A class that was neither predicted nor expected is left out of the macro mean.
    MCC is the multi-class R_K of Gorodkin, "Comparing two K-category assignments", 2004; 0 where it is undefined.
    """
    counts = confusion(predicted, expected, labels)
    hits, support, chosen = np.diag(counts), counts.sum(1), counts.sum(0)
    precision = _ratio(hits, chosen)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + chosen)
    seen = (support + chosen) > 0
    return {
        "accuracy": float(_ratio(hits.sum(), counts.sum())),
        "macro_f1": float(f1[seen].mean()) if seen.any() else 0.0,
        "mcc": _mcc(counts),
        "per_class": {
            label: {
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "support": int(support[i]),
            }
            for i, label in enumerate(labels)
        },
        "confusion_matrix": {"labels": list(labels), "counts": counts.tolist()},
    }


def bootstrap(
    score: Callable[[Array], float], rows: int, *, resamples: int = 500, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of a metric (Efron 1979).

    ``score`` maps row indices, INT64 of shape [rows], to the metric over those rows.
    """
    generator = np.random.default_rng(seed)
    values = [score(generator.integers(0, rows, rows)) for _ in range(resamples)]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def softmax(logits: Array) -> Array:
    """Probabilities along the last axis, FP32, of the shape of the logits."""
    shifted = np.exp(logits.astype(np.float32) - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True), np.float32)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.zeros(np.shape(numerator)), where=np.asarray(denominator) > 0)


def _mcc(counts: Array) -> float:
    total, hits = float(counts.sum()), float(np.trace(counts))
    support, chosen = counts.sum(1).astype(float), counts.sum(0).astype(float)
    covariance = hits * total - support @ chosen
    spread = (total**2 - support @ support) * (total**2 - chosen @ chosen)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0

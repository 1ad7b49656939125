"""The temperature of a graph's probabilities, fitted on validation rows.

Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017: one scalar that divides the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from serving.calibration import calibration_error
from serving.scoring import softmax
from serving.tasks import Task
from serving.tensors import Array, Row

# Fewer rows say little about one scalar, and nothing about whether it helped.
FEWEST = 100
RANGE = (-3.0, 3.0)
# As the loss of token classification leaves them out.
IGNORED = -100


@dataclass(frozen=True)
class Calibrated:
    """A temperature for all rows, and the expected calibration error without one and with one, on rows it never saw."""

    temperature: float
    raw: float
    error: float


def calibrate(task: Task, rows: Sequence[Row], answers: Sequence[Row]) -> Calibrated | None:
    """Fit on all rows; judge by two halves, each with the temperature of the other. None where rows are too few.

    A temperature that does not help is 1.
    """
    logits = np.concatenate([np.atleast_2d(np.asarray(answer["logits"], np.float64)) for answer in answers])
    labels = np.concatenate([np.atleast_1d(task.label(row)["labels"]) for row in rows])
    logits, labels = logits[labels != IGNORED], labels[labels != IGNORED]
    if len(labels) < FEWEST:
        return None
    halves = np.random.default_rng(0).permutation(len(labels)) % 2
    scaled = np.empty_like(logits)
    for half in (0, 1):
        scaled[halves == half] = logits[halves == half] / fit(logits[halves != half], labels[halves != half])
    raw, error = _error(logits, labels), _error(scaled, labels)
    return Calibrated(fit(logits, labels), raw, error) if error < raw else Calibrated(1.0, raw, raw)


def fit(logits: Array, labels: Array) -> float:
    """The temperature under which the labels are most likely; logits of shape [rows, labels], labels INT64."""

    def loss(exponent: float) -> float:
        likelihoods = log_softmax(logits / np.exp(exponent), axis=-1)
        return -float(np.mean(np.take_along_axis(likelihoods, labels[:, None], axis=-1)))

    return float(np.exp(minimize_scalar(loss, bounds=RANGE, method="bounded").x))


def _error(logits: Array, labels: Array) -> float:
    probabilities = softmax(logits)
    return calibration_error(probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels)

"""Probabilities that mean what they say: one temperature, which divides the logits, and how far off they are."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path

import numpy as np

from serving.errors import BundleError
from serving.tensors import Array

TEMPERATURE = "temperature.json"
BINS = 15


def read_temperature(assets: Path) -> float:
    """The temperature among the assets of a bundle; 1 where none was fitted. Raises BundleError for a wrong one."""
    path = assets / TEMPERATURE
    if not path.is_file():
        return 1.0
    try:
        temperature = float(json.loads(path.read_text("utf-8"))["temperature"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: cannot be read: {error}; export the model again") from error
    if not (isfinite(temperature) and temperature > 0):
        raise BundleError(f"{path}: temperature must be above 0, got {temperature}; export the model again")
    return temperature


def calibration_error(confidences: Array, right: Array) -> float:
    """The expected calibration error: the mean gap between confidence and accuracy over 15 bins of equal width.

    ``confidences`` in 0 to 1 and ``right`` (BOOL) have shape [rows].
    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = np.bincount(bins, weights=confidences - right, minlength=BINS)
    return float(np.abs(sums).sum() / max(1, counts.sum()))

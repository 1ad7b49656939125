"""Ranges of activations, learnt from encoded training rows in memory that does not grow with their number."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import HistogramCollector
from tqdm import tqdm

from export.int8.products import products
from export.int8.taps import Tap, tapped
from serving.errors import InvalidInput, fault
from serving.tensors import Graph, Tensors

Method = Literal["minmax", "entropy", "percentile"]
Ranges = Mapping[str, tuple[float, float]]
# ONNX Runtime's default for entropy, 128, leaves its search one candidate: the whole range.
BINS = {"entropy": 512, "percentile": 2048}
LEVELS, PERCENTILE = 128, 99.999
# A tensor that is always zero needs a range too.
TINY = 1e-6


def ranges(source: Path, graph: Graph, rows: Sequence[Tensors], method: Method = "minmax") -> Ranges:
    """The least and the largest value to represent of each input of a product with constant weights.

    ``minmax`` covers all that was seen, ``percentile`` all but the outermost 0.001 %, ``entropy`` the range that keeps
    most of the distribution in 128 levels (Migacz, "8-bit inference with TensorRT", 2017). Rows run one by one, and of
    each tensor they leave a minimum, a maximum and a histogram of fixed size behind. Raises InvalidInput for another
    method, and without rows.
    """
    if method not in get_args(Method):
        raise InvalidInput(fault("method", "is unknown", method, f"choose one of {', '.join(get_args(Method))}"))
    if not rows:
        raise InvalidInput(fault("rows", "there are none to calibrate on", len(rows), "give training rows"))
    model = onnx.load(source)
    names = {product.input for product in products(model)}
    with tapped(model, graph, names) as run:
        found = _extremes(run, rows)
        return found if method == "minmax" else _clipped(run, rows, found, method)


def _extremes(run: Tap, rows: Sequence[Tensors]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for row in _told(rows, "extremes"):
        for name, values in run(row).items():
            low, high = found.get(name, (np.inf, -np.inf))
            found[name] = (min(low, float(values.min())), max(high, float(values.max())))
    return found


def _clipped(run: Tap, rows: Sequence[Tensors], extremes: Ranges, method: str) -> Ranges:
    """Ranges out of ONNX Runtime's histograms, made one run at a time; its calibrators keep the tensors of all runs.

    The extremes are known before, so that it need not add bins for a row that is wider than the ones before it.
    """
    collector = HistogramCollector(
        method, symmetric=False, num_bins=BINS[method], num_quantized_bins=LEVELS, percentile=PERCENTILE,
        scenario="same",
    )  # fmt: skip
    for name, (low, high) in extremes.items():
        most = np.float32(max(abs(low), abs(high), TINY))
        edges = np.linspace(-most, most, BINS[method] + 1, dtype=np.float32)
        counts = np.zeros(BINS[method], np.int64)
        collector.histogram_dict[name] = (counts, edges, np.float32(low), np.float32(high), most)
    for row in _told(rows, "histograms"):
        collector.collect_value(run(row))
    with contextlib.redirect_stdout(io.StringIO()):
        found = collector.compute_collection_result()
    return {name: (float(value[0]), float(value[1])) for name, value in found.items()}


def _told(rows: Sequence[Tensors], what: str) -> Iterable[Tensors]:
    return tqdm(rows, desc=f"calibrating: {what}", unit="row", leave=False)

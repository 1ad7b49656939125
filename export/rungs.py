"""The kinds of graph that an export can try, by name: how each is made from the floating-point one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.int8 import drift, dynamic, smooth, static
from export.int8.calibration import Method
from serving.errors import InvalidInput, fault
from serving.tensors import Graph, Tensors

FP32 = "fp32"
INT8 = "int8"
NOT_CALIBRATED = (
    "the checkpoint is older than calibration.jsonl and has no rows to calibrate on; train again to get them"
)


@dataclass(frozen=True)
class Source:
    """What graphs are made of: the floating-point graph to quantize, and encoded training rows to calibrate on.

    ``seven_bits`` is whether weights get 7 bits, which no CPU overflows on. Graphs are made in ``folder``.
    """

    floats: Path
    graph: Graph
    calibration: Sequence[Tensors]
    seven_bits: bool
    folder: Path

    def path(self, rung: str) -> Path:
        """Where the graph of a rung is."""
        return self.folder / f"{rung}.onnx"


@dataclass(frozen=True)
class Rung:
    """One kind of graph; ``make`` writes it to ``source.path(name)``."""

    name: str
    what: str
    make: Callable[[Source, str], None]
    promises_invariance: bool = True
    calibrated: bool = True


def _dynamic(*, per_channel: bool) -> Callable[[Source, str], None]:
    def make(source: Source, name: str) -> None:
        dynamic.dynamic_int8(source.floats, source.path(name), per_channel=per_channel, seven_bits=source.seven_bits)

    return make


def _static(method: Method) -> Callable[[Source, str], None]:
    def make(source: Source, name: str) -> None:
        static.static_int8(
            source.floats, source.path(name), source.graph, source.calibration, method=method,
            seven_bits=source.seven_bits,
        )  # fmt: skip

    return make


def _smooth(source: Source, name: str) -> None:
    smoothed = source.folder / "smoothed.onnx"
    smooth.smooth(source.floats, smoothed, source.graph, source.calibration)
    static.static_int8(smoothed, source.path(name), source.graph, source.calibration, seven_bits=source.seven_bits)


def _mixed(share: float) -> Callable[[Source, str], None]:
    def make(source: Source, name: str) -> None:
        whole = source.path(STATIC)
        if not whole.exists():
            _static("minmax")(source, STATIC)
        found = drift.measure_drift(source.floats, whole, source.graph, source.calibration)
        static.static_int8(
            source.floats, source.path(name), source.graph, source.calibration, seven_bits=source.seven_bits,
            floats=drift.sensitive(found, round(share * len(found))),
        )  # fmt: skip

    return make


STATIC = "int8-static"
RUNGS = {
    rung.name: rung
    for rung in (
        Rung(STATIC, "static, scales from the least and largest values", _static("minmax")),
        Rung("int8-static-entropy", "static, scales that lose the least information", _static("entropy")),
        Rung("int8-static-percentile", "static, scales that leave out the rarest values", _static("percentile")),
        Rung("int8-static-smooth", "static, after SmoothQuant moved outliers into the weights", _smooth),
        Rung("int8-static-mixed12", "static, the worst eighth of the products in floats", _mixed(1 / 8)),
        Rung("int8-static-mixed25", "static, the worst quarter of the products in floats", _mixed(1 / 4)),
        Rung("int8-static-mixed50", "static, the worse half of the products in floats", _mixed(1 / 2)),
        Rung("int8-dynamic-tensor", "dynamic, one scale for each matrix", _dynamic(per_channel=False), False, False),
        Rung("int8-dynamic", "dynamic, one scale for each column", _dynamic(per_channel=True), False, False),
    )
}


def rungs_of(precision: str, *, calibrated: bool) -> tuple[list[Rung], str]:
    """The rungs to try for a precision, in order, and why some are left out.

    A static graph answers a row alike in any batch, so it may be served in batches: those come first. Raises
    InvalidInput, before any work, for a precision that the checkpoint has no rows for.
    """
    wanted = list(RUNGS.values()) if precision == INT8 else [RUNGS[precision]] if precision in RUNGS else []
    possible = [rung for rung in wanted if calibrated or not rung.calibrated]
    if wanted and not possible:
        raise InvalidInput(fault("--precision", NOT_CALIBRATED, precision, "or give int8-dynamic"))
    left_out = "" if len(possible) == len(wanted) else f"static kinds are left out: {NOT_CALIBRATED}"
    return possible, left_out

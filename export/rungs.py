"""The kinds of graph that an export can try, by name: how each is made from the floating-point one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from export import half, torch_graph
from export.floating import ONNX, SUFFIXES, device
from export.int8 import drift, dynamic, smooth, static, weight_only
from export.int8.calibration import Method
from serving.errors import InvalidInput, fault
from serving.tensors import Graph, Tensors

FP32, INT8, STATIC, DYNAMIC = "fp32", "int8", "int8-static", "int8-dynamic"
NOT_CALIBRATED = (
    "the checkpoint is older than calibration.jsonl and has no rows to calibrate on; train again to get them"
)


@dataclass(frozen=True)
class Source:
    """What graphs are made of: the floating-point graph, encoded training rows to calibrate on, and the PyTorch model.

    ``floats`` is None where a format is not made of another graph. ``seven_bits`` is whether weights get 7 bits, which
    no CPU overflows on. Graphs are made in ``folder``.
    """

    to: str
    floats: Path | None
    graph: Graph
    calibration: Sequence[Tensors]
    seven_bits: bool
    folder: Path
    model: Path
    auto_class: str
    example: Tensors

    def path(self, rung: str) -> Path:
        """Where the graph of a rung is."""
        return self.folder / f"{rung}{SUFFIXES[self.to]}"

    @property
    def original(self) -> Path:
        """The floating-point graph, which is there for the formats that are made of one."""
        assert self.floats is not None
        return self.floats

    @property
    def smoothed(self) -> Path:
        """The floating-point graph after SmoothQuant."""
        return self.folder / "smoothed.onnx"


@dataclass(frozen=True)
class Rung:
    """One kind of graph; ``make`` writes it to ``source.path(name)``.

    ``calibrated`` is whether it takes calibration rows, ``smoothed`` whether it is made of ``source.smoothed``.
    """

    name: str
    what: str
    make: Callable[[Source, str], None]
    promises_invariance: bool = True
    calibrated: bool = False
    smoothed: bool = False

    @property
    def is_integer(self) -> bool:
        """Whether it multiplies integers."""
        return self.name.startswith("int")


def _dynamic(source: Source, name: str) -> None:
    dynamic.dynamic_int8(source.original, source.path(name), seven_bits=source.seven_bits)


def _dynamic_tensor(source: Source, name: str) -> None:
    dynamic.dynamic_int8(source.original, source.path(name), per_channel=False, seven_bits=source.seven_bits)


def _static(method: Method) -> Callable[[Source, str], None]:
    def make(source: Source, name: str) -> None:
        static.static_int8(
            source.original, source.path(name), source.graph, source.calibration, method=method,
            seven_bits=source.seven_bits,
        )  # fmt: skip

    return make


def _smooth(source: Source, name: str) -> None:
    smooth.smooth(source.original, source.smoothed, source.graph, source.calibration)
    static.static_int8(
        source.smoothed, source.path(name), source.graph, source.calibration, seven_bits=source.seven_bits
    )


def _mixed(share: float) -> Callable[[Source, str], None]:
    def make(source: Source, name: str) -> None:
        whole = source.path(STATIC)
        if not whole.exists():
            _static("minmax")(source, STATIC)
        found = drift.measure_drift(source.original, whole, source.graph, source.calibration)
        static.static_int8(
            source.original, source.path(name), source.graph, source.calibration, seven_bits=source.seven_bits,
            floats=drift.sensitive(found, max(1, round(share * len(found)))),
        )  # fmt: skip

    return make


def _half(source: Source, name: str) -> None:
    half.convert(source.original, source.path(name), name)


def _weights(bits: Literal[4, 8]) -> Callable[[Source, str], None]:
    def make(source: Source, name: str) -> None:
        weight_only.weight_only(source.original, source.path(name), bits=bits)

    return make


def _torchscript(source: Source, name: str) -> None:
    process = torch_graph.start(
        source.to, source.model, source.auto_class, source.graph, source.example, source.path(name), int8=True
    )
    torch_graph.finish(process, source.path(name))


def _named(*rungs: Rung) -> dict[str, Rung]:
    return {rung.name: rung for rung in rungs}


# In the order in which they are tried. Those that answer a row alike in any batch, and so may be served in batches,
# come first; within each family, from the plain to the elaborate.
LADDER = _named(
    Rung(STATIC, "static: scales of the least and largest values", _static("minmax"), calibrated=True),
    Rung("int8-static-entropy", "static: scales that lose the least information", _static("entropy"), calibrated=True),
    Rung("int8-static-percentile", "static: scales without the rarest values", _static("percentile"), calibrated=True),
    Rung("int8-static-smooth", "static, after SmoothQuant", _smooth, calibrated=True, smoothed=True),
    Rung("int8-static-mixed12", "static, the worst eighth of the products in floats", _mixed(1 / 8), calibrated=True),
    Rung("int8-static-mixed25", "static, the worst quarter of the products in floats", _mixed(1 / 4), calibrated=True),
    Rung("int8-static-mixed50", "static, the worse half of the products in floats", _mixed(1 / 2), calibrated=True),
    Rung("int8-dynamic-tensor", "dynamic: one scale for each matrix", _dynamic_tensor, promises_invariance=False),
    Rung(DYNAMIC, "dynamic: one scale for each column", _dynamic, promises_invariance=False),
)
HALF = _named(Rung("fp16", "for GPUs, and CPUs of ARM", _half), Rung("bf16", "for GPUs", _half))
WEIGHTS = _named(
    Rung("int8-weights", "weights alone, for models that generate", _weights(8)),
    Rung("int4-weights", "weights alone, for models that generate", _weights(4)),
)
# By format: the ladder that `int8` climbs, and what there is only by name.
LADDERS: Mapping[str, Mapping[str, Rung]] = {
    ONNX: LADDER,
    torch_graph.TORCHSCRIPT: _named(Rung(DYNAMIC, "dynamic, by torch", _torchscript, promises_invariance=False)),
}
OTHERS: Mapping[str, Mapping[str, Rung]] = {ONNX: {**HALF, **WEIGHTS}}


def rungs_of(to: str, precision: str, *, calibrated: bool) -> tuple[list[Rung], str]:
    """The rungs to try for a format and precision, in order, and why some are left out; none for fp32.

    Raises InvalidInput, before any work, for what cannot be made: of this format, on this host, of this checkpoint.
    """
    if to != ONNX:
        torch_graph.check(to, int8="" if precision in (FP32, *HALF) else precision)
    if precision == FP32:
        return [], ""
    ladder = LADDERS.get(to, {})
    kinds = {**ladder, **OTHERS.get(to, {})}
    wanted = list(ladder.values()) if precision == INT8 else [kinds[precision]] if precision in kinds else []
    if not wanted:
        known = ", ".join([FP32, *([INT8] if ladder else []), *kinds])
        raise InvalidInput(fault("--precision", f"is not made for --to {to}", precision, f"give {known}"))
    if precision in HALF and (reason := half.supported(precision, device())):
        raise InvalidInput(fault("--precision", "is of no use here", precision, reason))
    possible = [rung for rung in wanted if calibrated or not rung.calibrated]
    if not possible:
        raise InvalidInput(fault("--precision", NOT_CALIBRATED, precision, f"or give {DYNAMIC}"))
    return possible, "" if len(possible) == len(wanted) else f"static kinds are left out: {NOT_CALIBRATED}"

"""What a graph is made of, in the session that serves it: its operators, and whether its sums can overflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from export.int8 import saturation
from export.operators import Operators, Promised, missing
from serving import processor
from serving.backends import torchscript
from serving.tensors import Graph, Tensors

# A linear layer of torch in dynamic INT8.
LINEAR = "quantized::linear_dynamic"


@dataclass(frozen=True)
class Structure:
    """``counts`` are operators by kind, empty where the format does not tell them; ``missing`` what was promised.

    ``overflows`` of ``sums`` leave 16 bits on the calibration rows, which CPUs without what it ``needs`` cannot add;
    ``safe_here`` is whether this host can.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    missing: Sequence[str] = ()
    overflows: int = 0
    sums: int = 0
    needs: tuple[str, ...] = ()
    safe_here: bool = True


def of_operators(operators: Operators, promised: Promised) -> Structure:
    """The structure of a graph without 8-bit sums."""
    return Structure(operators.summary(), missing(operators, promised))


def of_integers(
    operators: Operators, promised: Promised, floats: Path, integers: Path, graph: Graph, rows: Sequence[Tensors]
) -> Structure:
    """The structure of an integer graph that was made of ``floats``; ``rows`` are encoded, to predict its sums on."""
    found = saturation.predict(floats, integers, graph, rows)
    return Structure(
        operators.summary(), missing(operators, promised), found.overflows,
        sum(product.total for product in found.products), found.needs, not processor.read().lacking(found.needs),
    )  # fmt: skip


def of_torchscript(path: Path) -> Structure:
    """The structure of a TorchScript graph in integers, which must multiply some."""
    graph: Any = torchscript.open_graphs({"graph": path}).functions["graph"].call
    found = str(graph.inlined_graph).count(LINEAR)
    told = () if found else ("matrix products in integers: the graph has none",)
    return Structure({"integer": found}, told)

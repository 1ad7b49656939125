"""Every encoder family that the product names goes through every route: exported, right at other shapes, quantized."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from export import operators, routes, sweep
from export.int8.dynamic import dynamic_int8
from export.int8.saturation import saturates
from export.int8.static import static_int8
from export.routes import FUSED, FUSING, NATIVE, OPTIMIZED, TRACED
from serving.backends import open_backend
from serving.tensors import Array, Graph, stack
from tests.export import families
from tests.export.families import FAMILIES

QUICK, SLOW = (TRACED, OPTIMIZED), (NATIVE, FUSED)
# Where ONNX Runtime's optimizer knows the attention of the family.
FUSABLE = ("bert", "distilbert", "roberta", "xlm-roberta", "electra")


@dataclass(frozen=True)
class Exported:
    """A model and its graphs."""

    model: Any
    graph: Graph
    folder: Path
    made: dict[str, Path | str]
    answered: list[sweep.Answered]


def exported(folder: Path, wanted: tuple[str, ...]) -> dict[str, Exported]:
    """All families through the exporter's own main, in one process: its imports are most of the time."""
    models = {family: families.save(family, folder / family) for family in FAMILIES}
    commands: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routes.subprocess, "Popen", lambda command, **options: commands.append(command[3:]))
        for family, model in models.items():
            row = families.row(9)
            routes.start(folder / family, families.AUTO_CLASS, families.graph(model), row, folder / family, wanted)
    script = "import json, sys; from export.route_graphs import main\nfor argv in json.load(sys.stdin): main(argv)"
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], input=json.dumps(commands), capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr[-2000:]
    found = {}
    for family, model in models.items():
        own, graph = folder / family, families.graph(model)
        made = routes.finish(subprocess.Popen(["true"], stdout=subprocess.PIPE, text=True), own, wanted)
        answered = sweep.answers(model, graph, families.VOCABULARY, families.positions(model))
        found[family] = Exported(model, graph, own, made, answered)
    return found


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    return exported(tmp_path_factory.mktemp("quick"), QUICK)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    return exported(tmp_path_factory.mktemp("slow"), SLOW)


def holds(one: Exported, route: str) -> None:
    """The contract of a graph: named symbolic axes, PyTorch's answers at shapes never traced, operators kept whole."""
    path = one.made[route]
    assert isinstance(path, Path), path
    graph = onnx.load(path).graph
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert {name: shapes[name] for name in shapes if name != "logits"} == {
        field.name: ["batch", "length"] for field in one.graph.inputs
    }
    assert shapes["logits"][0] == "batch"
    swept = sweep.compare(one.answered, open_backend("onnxruntime", {"model": path}), "model")
    assert {result.rows for result in swept} == {1, 2, 3, 4, 5}
    assert max(result.length for result in swept) == 128
    promised = operators.promised(one.model, one.answered[-1].batch, fused_attention=route in FUSING["cpu"])
    assert min(promised.layer_norm, promised.gelu) > 0
    assert operators.missing(operators.count(path), promised) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_the_traced_graph_is_the_model(quick: dict[str, Exported], family: str) -> None:
    holds(quick[family], TRACED)


@pytest.mark.parametrize("family", FUSABLE)
def test_the_graph_with_fused_attention_is_the_model(quick: dict[str, Exported], family: str) -> None:
    holds(quick[family], OPTIMIZED)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(FUSABLE)))
def test_where_attention_cannot_be_fused_that_is_the_reason(quick: dict[str, Exported], family: str) -> None:
    reason = quick[family].made[OPTIMIZED]
    assert isinstance(reason, str)
    assert re.fullmatch(rf"ONNX Runtime's optimizer fuses attention in [01] of [24] layers of {family}", reason)


@pytest.mark.full
@pytest.mark.parametrize("route", SLOW)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_of_transformers_exporters_is_the_model(slow: dict[str, Exported], family: str, route: str) -> None:
    holds(slow[family], route)


def dynamic(one: Exported, source: Path, target: Path) -> None:
    dynamic_int8(source, target, seven_bits=saturates())


def static(one: Exported, source: Path, target: Path) -> None:
    rows = [families.row(length) for length in (5, 9, 14, 20, 33, 60)]
    static_int8(source, target, one.graph, rows, seven_bits=saturates())


@pytest.mark.parametrize("quantize", [dynamic, static])
@pytest.mark.parametrize("family", FAMILIES)
def test_its_int8_graph_answers_much_the_same(
    quick: dict[str, Exported], family: str, quantize: Callable[[Exported, Path, Path], None], tmp_path: Path
) -> None:
    one = quick[family]
    source, target = one.made[TRACED], tmp_path / "int8.onnx"
    assert isinstance(source, Path)
    quantize(one, source, target)

    def answers(path: Path) -> Array:
        backend = open_backend("onnxruntime", {"model": path})
        batches = [stack([families.row(length)], one.graph.inputs) for length in (4, 8, 16, 30, 50)]
        return np.concatenate([backend.run("model", batch)["logits"] for batch in batches])

    counted = operators.count(target)
    assert operators.missing(counted, operators.promised(one.model, one.answered[-1].batch, integer=True)) == []
    assert counted.integer > 2 * one.model.config.num_hidden_layers
    expected, found = answers(source), answers(target)
    assert np.abs(found - expected).max() < 0.2 * np.abs(expected).max()

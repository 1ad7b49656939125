"""The exporter's process: what it is asked, what comes back, and a route that fails beside one that works."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from export import child, route_graphs, routes
from export.child import ExportError
from export.route_graphs import read_graph
from tests.export.test_axes import GRAPH, shapes, written
from tests.export.test_child import ended


def test_it_is_traced_on_rows_of_unlike_length_and_told_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(child.subprocess, "Popen", lambda command, **options: commands.append(command))
    example = {"input_ids": np.arange(1, 6), "attention_mask": np.ones(5, np.int64)}
    routes.start(tmp_path / "model", "AutoModel", GRAPH, example, tmp_path, ("native", "traced"), "cuda")
    declared, samples = tmp_path / "graph.json", tmp_path / "samples.npz"
    assert commands[0][1:] == [
        *["-m", "export.route_graphs", str(tmp_path / "model"), "AutoModel"],
        *[str(declared), str(samples), str(tmp_path), "cuda", "native,traced"],
    ]
    assert read_graph(declared) == GRAPH
    with np.load(samples) as arrays:
        assert arrays["attention_mask"].sum(axis=1).tolist() == [7, 11]
        assert arrays["input_ids"][0, 7:].tolist() == [7] * 4


def test_a_graph_beside_a_failure_is_an_export(tmp_path: Path) -> None:
    (tmp_path / "native.onnx").touch()
    (tmp_path / "traced.failed").write_text("cannot trace this")
    assert routes.finish(ended("true"), tmp_path, ("native", "traced")) == {
        "native": tmp_path / "native.onnx",
        "traced": "cannot trace this",
    }


def test_what_a_killed_exporter_did_not_get_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "traced.onnx").touch()
    (tmp_path / "native.writing").touch()
    made = routes.finish(ended("sh", "-c", "kill -9 $$"), tmp_path, ("native", "traced"))
    assert made["traced"] == tmp_path / "traced.onnx"
    assert made["native"] == "the exporter ended before it, with exit code -9"


def test_when_no_route_works_every_reason_and_the_last_words_are_told(tmp_path: Path) -> None:
    (tmp_path / "traced.failed").write_text("cannot trace this")
    process = subprocess.Popen(
        ["sh", "-c", "echo no such class; exit 1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with pytest.raises(ExportError, match=r"(?s)native: .*exit code 1; traced: cannot trace this.*no such class"):
        routes.finish(process, tmp_path, ("native", "traced"))


def test_a_graph_appears_with_its_axes_named_and_one_with_a_baked_axis_as_a_failure(tmp_path: Path) -> None:
    def right(path: Path) -> None:
        written(path, ["s0", "s1"], ["s0", "s1"], ["s0", 2])

    def baked(path: Path) -> None:
        written(path, [2, "s1"], ["s0", "s1"], ["s0", 2])

    route_graphs.write(tmp_path, "native", right, GRAPH)
    route_graphs.write(tmp_path, "traced", baked, GRAPH)
    assert {path.name for path in tmp_path.iterdir()} == {"native.onnx", "traced.failed"}
    assert shapes(tmp_path / "native.onnx")["input_ids"] == ["batch", "length"]
    assert (tmp_path / "traced.failed").read_text() == (
        "axes that must be dynamic were baked in: input_ids axis 0 (batch) is fixed to 2"
    )


def test_what_an_exporter_raises_is_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def failing(path: Path) -> None:
        raise RuntimeError("Unsupported operator\nand pages of what was tried")

    route_graphs.write(tmp_path, "native", failing, GRAPH)
    assert (tmp_path / "native.failed").read_text() == "RuntimeError: Unsupported operator"
    assert "and pages of what was tried" in capsys.readouterr().err


def test_an_input_that_the_model_does_not_read_stays_an_input(tmp_path: Path) -> None:
    node = helper.make_node("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["s0", "s1"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["s0", "s1"])

    def unread(path: Path) -> None:
        onnx.save(helper.make_model(helper.make_graph([node], "g", [ids], [logits])), path, format="protobuf")

    route_graphs.write(tmp_path, "traced", unread, GRAPH)
    assert shapes(tmp_path / "traced.onnx")["attention_mask"] == ["batch", "length"]


def test_an_input_that_no_field_fills_is_refused(tmp_path: Path) -> None:
    def other(path: Path) -> None:
        written(path, ["b", "s"], ["b", "s"], ["b", 2])
        model = onnx.load(path, format="protobuf")
        model.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["b", "s"]))
        onnx.save(model, path, format="protobuf")

    route_graphs.write(tmp_path, "traced", other, GRAPH)
    assert "the graph wants position_ids" in (tmp_path / "traced.failed").read_text()

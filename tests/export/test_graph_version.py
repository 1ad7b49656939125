"""A graph is fitted to an older ONNX Runtime, or it is said what of it is too new; never is only the number changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.child import ExportError
from export.graph_version import FIRST_IR_OF_TYPES, fit, opset
from export.triton_releases import RUNTIMES, Release, find

X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
OLD, DEFAULT, NEW = find("24.04"), find("24.10"), find("26.08")


def model(*nodes: onnx.NodeProto, opset: int = 20, ir: int = 10, **options: Any) -> onnx.ModelProto:
    """x of shape [batch, 4] in, y out; the nodes go from one to the other."""
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "y")]
    graph = helper.make_graph(list(nodes), "g", floats[:1], floats[1:], **options)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir)


def plain(opset: int = 20, ir: int = 10) -> onnx.ModelProto:
    """Nodes of which some changed between all the opsets of the table, with remarks as the exporter leaves them."""
    made = model(
        helper.make_node("Softmax", ["x"], ["soft"], axis=-1),
        helper.make_node("Shape", ["soft"], ["shape"]),
        helper.make_node("Reshape", ["soft", "shape"], ["same"]),
        helper.make_node("Cast", ["same"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["number"], ["turned"], perm=[1, 0]),
        helper.make_node("Transpose", ["turned"], ["y"], perm=[1, 0]),
        opset=opset,
        ir=ir,
    )
    for node in made.graph.node:
        node.metadata_props.add(key="came from", value="line 1")
    return made


def answer(made: onnx.ModelProto) -> np.ndarray[Any, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: np.ndarray[Any, Any] = session.run(["y"], {"x": X})[0]
    return result


def test_a_graph_that_fits_is_left_as_it_is() -> None:
    made = plain()
    before = made.SerializeToString()
    fitted, changes = fit(made, DEFAULT)
    assert fitted.SerializeToString() == before
    assert changes == []


@settings(deadline=None)
@given(st.integers(13, 28), st.integers(8, 14), st.sampled_from(list(RUNTIMES)))
def test_what_comes_out_is_within_the_release_and_answers_the_same(opset_given: int, ir: int, name: str) -> None:
    made, release = plain(opset_given, ir), find(name)
    fitted, changes = fit(made, release)
    assert opset(fitted) == min(opset_given, release.opset)
    assert fitted.ir_version == min(ir, release.ir)
    assert len(changes) == (opset_given > release.opset) + (ir > release.ir)
    onnx.checker.check_model(fitted)
    assert fitted.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert np.array_equal(answer(fitted), answer(made))


def test_what_was_done_is_told() -> None:
    assert fit(plain(24, 12), DEFAULT)[1] == ["opset 24 converted to 21", "IR version 12 lowered to 10"]


def test_remarks_go_only_where_the_ir_version_has_none() -> None:
    assert sum(len(node.metadata_props) for node in fit(plain(), OLD)[0].graph.node) == 0
    assert sum(len(node.metadata_props) for node in fit(plain(20, 14), DEFAULT)[0].graph.node) == 6
    made = plain()
    fit(made, OLD)
    assert made.ir_version == 10
    assert sum(len(node.metadata_props) for node in made.graph.node) == 6


def test_operators_of_onnx_runtime_are_left_in_peace() -> None:
    made = model(helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft"), opset=23, ir=11)
    fitted, _ = fit(made, DEFAULT)
    assert [(node.domain, node.op_type) for node in fitted.graph.node] == [("com.microsoft", "QuickGelu")]
    assert np.array_equal(answer(fitted), answer(made))


def test_an_operator_that_is_too_new_is_named_with_the_remedy() -> None:
    scale = onnx.numpy_helper.from_array(np.ones(4, np.float32), "scale")
    made = model(helper.make_node("RMSNormalization", ["x", "scale"], ["y"]), opset=23, ir=11, initializer=[scale])
    with pytest.raises(ExportError, match=r"opset 23 .*converted to 21.*RMSNormalization.*newer --triton-release"):
        fit(made, DEFAULT)
    assert fit(made, NEW)[1] == []


def four_bits(kind: int = TensorProto.INT4) -> onnx.TensorProto:
    return helper.make_tensor("bits", kind, [4], [0, 1, -1, 1])


def in_a_branch() -> list[onnx.NodeProto]:
    """The tensor stands in an attribute of a node inside the graph of an If."""
    inner = [
        helper.make_node("Constant", [], ["bits"], value=four_bits()),
        helper.make_node("Cast", ["bits"], ["out"], to=TensorProto.FLOAT),
    ]
    branch = helper.make_graph(inner, "b", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, [4])])
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    return [
        helper.make_node("Constant", [], ["yes"], value=yes),
        helper.make_node("If", ["yes"], ["row"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["x", "row"], ["y"]),
    ]


def overloaded() -> onnx.NodeProto:
    node = helper.make_node("Identity", ["x"], ["y"])
    node.overload = "other"
    return node


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (
            model(
                helper.make_node("Cast", ["bits"], ["row"], to=TensorProto.FLOAT),
                helper.make_node("Add", ["x", "row"], ["y"]),
                initializer=[four_bits()],
            ),
            "tensors of type INT4",
        ),
        (model(*in_a_branch()), "tensors of type INT4"),
        (
            model(
                helper.make_node("Cast", ["x"], ["small"], to=TensorProto.UINT4),
                helper.make_node("Cast", ["small"], ["y"], to=TensorProto.FLOAT),
            ),
            "tensors of type UINT4",
        ),
        (model(overloaded()), "NodeProto.overload"),
    ],
)
def test_what_an_older_ir_version_has_not_is_refused_and_not_renamed(made: onnx.ModelProto, told: str) -> None:
    with pytest.raises(
        ExportError, match=r"IR version 10.*ONNX Runtime 1\.17\.3.*" + told + ".*newer --triton-release"
    ):
        fit(made, OLD)
    assert fit(made, DEFAULT)[1] == []


def first_ir_of_types() -> list[tuple[str, int]]:
    """Tensor types by the IR version that brought them, as the comments of onnx.proto have them."""
    proto = (Path(onnx.__file__).parent / "onnx.proto").read_text("utf-8")
    blocks = re.findall(r"// IR VERSION (\d+) published on.*?\n(.*?)IR_VERSION", proto, re.DOTALL)
    names = re.compile(r"\b(?:FLOAT\d+E\w+|U?INT[24])\b")
    return [(name, int(version)) for version, text in blocks for name in names.findall(text)]


def test_the_table_of_types_is_that_of_onnx() -> None:
    known = {TensorProto.DataType.Name(number): first for number, first in FIRST_IR_OF_TYPES.items()}
    assert known == {name: first for name, first in first_ir_of_types() if first < onnx.IR_VERSION}


@pytest.mark.parametrize(("name", "first"), [pair for pair in first_ir_of_types() if not pair[0].startswith("FLOAT6")])
def test_every_type_is_known_by_the_ir_version_that_brought_it(name: str, first: int) -> None:
    made = model(helper.make_node("Identity", ["x"], ["y"]), ir=14)
    made.graph.value_info.append(helper.make_tensor_value_info("z", TensorProto.DataType.Value(name), [4]))
    assert fit(made, Release("this", "1.0", 20, first))[0].ir_version == first
    with pytest.raises(ExportError, match=f"tensors of type {name}"):
        fit(made, Release("older", "1.0", 20, first - 1))


@pytest.mark.parametrize(("name", "first"), [("overload", 10), ("device_configurations", 11), ("configuration", 11)])
def test_every_field_is_known_by_the_ir_version_that_brought_it(name: str, first: int) -> None:
    made = model(helper.make_node("Identity", ["x"], ["y"]), ir=14)
    if name == "overload":
        made.graph.node[0].overload = "other"
    else:
        getattr(made if name == "configuration" else made.graph.node[0], name).add()
    assert fit(made, Release("this", "1.0", 20, first))[0].ir_version == first
    with pytest.raises(ExportError, match=rf"Proto\.{name}"):
        fit(made, Release("older", "1.0", 20, first - 1))


def test_a_type_that_is_newer_than_the_table_is_not_let_through() -> None:
    made = model(helper.make_node("Identity", ["x"], ["y"]), ir=14)
    made.graph.value_info.append(helper.make_tensor_value_info("z", max(TensorProto.DataType.values()), [4]))
    with pytest.raises(ExportError, match="tensors of type FLOAT6"):
        fit(made, NEW)


def test_a_graph_of_no_operator_set_has_none() -> None:
    assert opset(onnx.ModelProto()) == 0

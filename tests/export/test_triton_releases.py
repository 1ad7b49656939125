"""The table of releases: complete, and what it says of a release holds for every newer one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from export.triton_releases import DEFAULT, LIMITS, RUNTIMES, find
from serving.errors import InvalidInput


def test_the_release_that_the_wheel_of_the_server_carries() -> None:
    release = find("24.10")
    assert (release.name, release.runtime, release.opset, release.ir) == ("24.10", "1.19.2", 21, 10)
    assert str(release) == "Triton 24.10 (ONNX Runtime 1.19.2: opset up to 21, IR version up to 10)"


@pytest.mark.parametrize("name", ["24.1", "2.51.0", "", "99.01"])
def test_an_unknown_release_is_told_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"--triton-release.*24\.04.*26\.08") as caught:
        find(name)
    assert repr(name) in str(caught.value)


def test_a_newer_release_reads_all_that_an_older_one_reads() -> None:
    releases = [find(name) for name in sorted(RUNTIMES)]
    assert list(RUNTIMES) == sorted(RUNTIMES)
    for older, newer in pairwise(releases):
        assert (older.opset, older.ir) <= (newer.opset, newer.ir)
        assert older.opset <= newer.opset
    assert DEFAULT in RUNTIMES
    assert {runtime.rpartition(".")[0] for runtime in RUNTIMES.values()} == set(LIMITS)


@pytest.mark.parametrize("limit", sorted(set(LIMITS.values())))
def test_a_graph_at_the_limit_is_one_that_onnx_runtime_reads(limit: tuple[int, int]) -> None:
    """ONNX Runtime here is newer than all of the table, so it must read whatever the table promises of older ones."""
    opset, ir = limit
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", floats[:1], floats[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones(2, np.float32)})[0].tolist() == [-1, -1]

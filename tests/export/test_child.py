"""The process that makes a graph: what it is given, and what is told when it fails."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from export import child
from export.child import ExportError
from tests.export.test_axes import GRAPH


def ended(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_the_last_words_of_a_failed_exporter_are_told(tmp_path: Path) -> None:
    (tmp_path / "graph").write_bytes(b"there")
    with pytest.raises(ExportError, match="cannot trace this"):
        child.finish(ended("sh", "-c", "echo cannot trace this; exit 1"), tmp_path / "graph")
    with pytest.raises(ExportError, match="the exporter failed"):
        child.finish(ended("true"), tmp_path / "none")
    child.finish(ended("true"), tmp_path / "graph")


def test_it_traces_rows_of_unlike_length_and_never_one_alone(tmp_path: Path) -> None:
    example = {"input_ids": np.arange(1, 6), "attention_mask": np.ones(5, np.int64)}
    with np.load(child.write_samples(tmp_path / "g.onnx", GRAPH, example)) as samples:
        mask, ids = samples["attention_mask"], samples["input_ids"]
    assert mask.shape == ids.shape == (2, 11)
    assert mask.sum(axis=1).tolist() == [7, 11]
    assert ids[0, 7:].tolist() == [7] * 4

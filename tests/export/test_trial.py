"""A graph is measured by a process that serves it, and by nothing that training needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import trial
from export.trial import Graphed, TrialError
from serving.tasks.text_classification import TextClassification
from serving.tensors import Row
from tests.serving.bundles import answered, write_assets, write_graph

ROWS: list[Row] = [{"text": "a" * (1 + index)} for index in range(12)] + [{"text": "b", "text_pair": "c"}]


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_assets(tmp_path_factory.mktemp("trial") / "assets")


def test_answers_are_those_of_each_row_alone_and_all_is_measured(assets: Path) -> None:
    graph = write_graph(assets.parent / "model.onnx", "onnxruntime")
    tried = Graphed(graph, "onnxruntime")
    answers, measured = trial.run("tiny", "text-classification", "model", assets, ROWS, tried, tried)
    task = TextClassification.open(assets)
    for row, answer in zip(ROWS, answers, strict=True):
        wanted = answered(task, "onnxruntime", graph, row)
        assert answer["label"] == wanted["label"]
        assert np.allclose(answer["logits"], wanted["logits"], atol=1e-7)
    assert 0 < measured.p50_ms <= measured.p99_ms
    assert measured.rows_per_second > 0
    assert measured.memory > 10_000_000
    assert measured.invariance.held
    assert measured.speedup is not None
    assert measured.speedup.low <= measured.speedup.ratio <= measured.speedup.high


def test_a_graph_that_cannot_be_opened_is_told_with_the_reason(assets: Path) -> None:
    broken = assets.parent / "broken.onnx"
    broken.write_bytes(b"no graph")
    with pytest.raises(TrialError, match=r"tiny cannot be run: ONNX Runtime cannot load .*broken\.onnx"):
        trial.run("tiny", "text-classification", "model", assets, ROWS, Graphed(broken, "onnxruntime"), None)


def test_the_process_loads_nothing_that_a_server_does_not_have() -> None:
    script = (
        "import sys, export.measuring; print(sorted({'torch', 'transformers', 'datasets', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

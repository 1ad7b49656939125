"""Bundles of TorchScript and of torch.export answer as the ONNX bundle of the same checkpoint does, over every wire."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export import bundle_writer, torch_graph
from export.bundle_writer import Contents
from export.child import write_samples
from export.torch_graph import FP32, GRAPH_FILES
from serving.bundle import open_bundle
from serving.tensors import check
from tests.finetune import toy
from tests.serving.server_process import ServerProcess, running
from tests.serving.wires import OUTPUTS, WIRES, Wire

ROWS = toy.rows(6, seed=3, pairs=True)


def write(kind: str, checkpoint: Path, onnx: Path, repository: Path) -> Path:
    """The ONNX bundle with its graph in another format: same assets, same golden rows, same tolerance."""
    bundle = open_bundle(onnx)
    task = bundle.open_task()
    ((name, graph),) = task.graphs.items()
    target = repository.parent / GRAPH_FILES[kind]
    samples = write_samples(target, graph, task.encode(check(task.example, task.inputs)))
    outputs = ",".join(field.name for field in graph.outputs)
    words = [kind, FP32, str(checkpoint / "model"), task.auto_class, str(samples), outputs, str(target)]
    assert torch_graph.main(words) == 0
    manifest = dataclasses.replace(
        bundle.manifest, name=kind, backend="torchscript", graphs={name: target.name}, files={}
    )
    contents = Contents(task, {name: target}, bundle.folder / "assets", bundle.golden())
    return bundle_writer.write(repository, manifest, contents)


@pytest.fixture(scope="module")
def server(checkpoint: Path, fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    repository = tmp_path_factory.mktemp("formats") / "repository"
    shutil.copytree(fp32.parent, repository / "toy")
    for kind in GRAPH_FILES:
        write(kind, checkpoint, fp32, repository)
    with running(repository, "--runners", "2") as process:
        yield process


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
def test_every_format_answers_as_the_onnx_graph(server: ServerProcess, wire: Wire) -> None:
    columns = {name: [row[name] for row in ROWS] for name in ("text", "text_pair")}
    expected = wire.ask(server, columns, model="toy").outputs
    assert len(set(expected["label"].ravel())) > 1
    for kind in GRAPH_FILES:
        found = wire.ask(server, columns, model=kind).outputs
        assert set(found) == set(OUTPUTS)
        assert found["label"].tolist() == expected["label"].tolist()
        np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-4, atol=1e-5)

"""What every backend promises: declared outputs, rows that do not see each other, threads that do not either."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import backends
from serving.backends import Backend, open_backend
from serving.bundle import write_json
from serving.errors import BundleError, NotFound
from serving.tasks.text_classification import TextClassification
from serving.tensors import Graph, Tensors, stack
from tests.serving.bundles import GRAPH_FILES, LABELS, write_assets, write_bundle, write_graph
from tests.serving.server_process import running

FILES = {**GRAPH_FILES, "triton": "model.json"}
# A backend that reads a second format keeps its promises with that one too.
FORMATS = [*FILES.items(), ("torchscript", "model.pt2")]

texts = st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1), min_size=1, max_size=6)


@pytest.fixture(scope="module", params=FORMATS, ids=lambda format: f"{format[0]} {format[1]}")
def format(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A backend and the name of its graph file."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture(scope="module")
def name(format: tuple[str, str]) -> str:
    return format[0]


@pytest.fixture(scope="module")
def file(format: tuple[str, str]) -> str:
    return format[1]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TextClassification:
    return TextClassification.open(write_assets(tmp_path_factory.mktemp("task") / "assets"))


@pytest.fixture(scope="module")
def graph(task: TextClassification) -> Graph:
    return task.graphs["model"]


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The gRPC address of a server that runs the graph of the model ``intent`` for others."""
    folder = tmp_path_factory.mktemp("remote")
    write_bundle(folder, "intent", backend="onnxruntime", max_batch_size=8)
    with running(folder) as server:
        yield server.grpc


@pytest.fixture(scope="module")
def write(name: str, request: pytest.FixtureRequest) -> Callable[[Path], Path]:
    """Writes a graph that the backend loads."""
    if name != "triton":
        return lambda path: write_graph(path, name)
    address = request.getfixturevalue("remote")

    def described(path: Path) -> Path:
        write_json(path, {"address": address, "model": "intent", "version": "1"})
        return path

    return described


@pytest.fixture(scope="module")
def backend(
    name: str, file: str, write: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    backend = open_backend(name, {"model": write(tmp_path_factory.mktemp(name) / file)})
    yield backend
    backend.close()


def encoded(task: TextClassification, text: str) -> Tensors:
    return task.encode({"text": text})


def test_every_backend_is_held_to_this_contract() -> None:
    assert set(backends.names()) == set(FILES), "teach bundles.write_graph to write a graph for the new backend"


def test_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotFound) as caught:
        open_backend("abacus", {})
    for name in backends.names():
        assert name in str(caught.value)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_run_gives_the_declared_outputs_with_a_batch_axis(
    rows: int, backend: Backend, task: TextClassification, graph: Graph
) -> None:
    outputs = backend.run("model", stack([encoded(task, "abc")] * rows, graph.inputs))
    # A remote model may give more than the graph: all that its task makes of it.
    assert set(outputs) >= {field.name for field in graph.outputs}
    assert outputs["logits"].shape == (rows, len(LABELS))
    assert outputs["logits"].dtype == np.float32


def test_rows_of_a_padded_batch_answer_as_they_do_alone(
    backend: Backend, task: TextClassification, graph: Graph
) -> None:
    @settings(deadline=None)
    @given(texts)
    def holds(chosen: list[str]) -> None:
        rows = [encoded(task, text) for text in chosen]
        together = backend.run("model", stack(rows, graph.inputs))["logits"]
        alone = [backend.run("model", stack([row], graph.inputs))["logits"][0] for row in rows]
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)

    holds()


def test_other_rows_get_other_answers(backend: Backend, task: TextClassification, graph: Graph) -> None:
    logits = backend.run("model", stack([encoded(task, "abc"), encoded(task, "abd")], graph.inputs))["logits"]
    assert not np.allclose(logits[0], logits[1])


def test_many_threads_run_one_graph_as_one_thread_does(
    backend: Backend, task: TextClassification, graph: Graph
) -> None:
    batches = [stack([encoded(task, "x" * length)], graph.inputs) for length in range(1, 40)] * 4
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda batch: backend.run("model", batch)["logits"], batches))
    for batch, found in zip(batches, together, strict=True):
        np.testing.assert_array_equal(found, backend.run("model", batch)["logits"])


@pytest.mark.parametrize("content", [None, b"", b"\xff\x00 no graph"], ids=["absent", "empty", "damaged"])
def test_graph_that_cannot_be_loaded_is_a_bundle_error(
    content: bytes | None, name: str, file: str, tmp_path: Path
) -> None:
    path = tmp_path / file
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError):
        open_backend(name, {"model": path})


def test_close_may_be_called_once_the_last_run_is_over(
    name: str, file: str, write: Callable[[Path], Path], task: TextClassification, graph: Graph, tmp_path: Path
) -> None:
    backend = open_backend(name, {"model": write(tmp_path / file)})
    before = backend.run("model", stack([encoded(task, "a")], graph.inputs))["logits"].copy()
    backend.close()
    again = open_backend(name, {"model": tmp_path / file})
    assert np.array_equal(again.run("model", stack([encoded(task, "a")], graph.inputs))["logits"], before)

"""TorchScript and pt2: the graph is PyTorch at every shape, its names are inside it, and what cannot be is refused."""

from __future__ import annotations

import builtins
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from export import torch_graph
from export.child import ExportError, write_samples
from export.sweep import answers, compare
from export.torch_graph import FP32, GRAPH_FILES, INT8, PT2, TORCHSCRIPT, check
from serving.backends import open_backend
from serving.errors import InvalidInput
from serving.tensors import Field, Graph

GRAPH = Graph(
    tuple(Field(name, "INT64", ("length",)) for name in ("input_ids", "token_type_ids", "attention_mask")),
    (Field("logits", "FP32", ("labels",)),),
)
EXAMPLE = {
    "input_ids": np.array([5, 9, 17, 30, 6]),
    "token_type_ids": np.zeros(5, np.int64),
    "attention_mask": np.ones(5, np.int64),
}
AUTO_CLASS = "AutoModelForSequenceClassification"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT. Read only."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40,
        max_position_embeddings=70, num_labels=3,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("bert")
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def made(weights: Path, folder: Path, kind: str, precision: str = FP32) -> Path:
    """The graph, made in this process as the child makes it in its own."""
    target = folder / GRAPH_FILES[kind]
    samples = write_samples(target, GRAPH, EXAMPLE)
    assert torch_graph.main([kind, precision, str(weights), AUTO_CLASS, str(samples), "logits", str(target)]) == 0
    return target


@pytest.fixture(scope="module", params=[TORCHSCRIPT, PT2])
def path(request: pytest.FixtureRequest, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(weights, tmp_path_factory.mktemp("graph"), request.param)


@pytest.fixture(scope="module")
def model(weights: Path) -> Any:
    return transformers.BertForSequenceClassification.from_pretrained(weights).eval()


def test_the_graph_is_pytorch_at_every_shape(path: Path, model: Any) -> None:
    backend = open_backend("torchscript", {"model": path})
    results = compare(answers(model, GRAPH, model.config.vocab_size, 70), backend, "model")
    assert {result.rows for result in results} == {1, 2, 3, 4, 5}
    assert max(result.difference for result in results) < 1e-4


def test_only_what_the_graph_declares_is_passed_and_from_any_array(path: Path) -> None:
    backend = open_backend("torchscript", {"model": path})
    batch = {name: array[None] for name, array in EXAMPLE.items()}
    expected = backend.run("model", batch)["logits"]
    for array in batch.values():
        array.flags.writeable = False  # as the bytes of a request are
    found = backend.run("model", {"length": np.array([[5]]), **dict(reversed(batch.items()))})
    assert list(found) == ["logits"]
    np.testing.assert_array_equal(found["logits"], expected)


def test_triton_finds_the_arguments_by_name_and_the_outputs_by_position(
    weights: Path, tmp_path: Path, model: Any
) -> None:
    extra = {"names.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        loaded = torch.jit.load(made(weights, tmp_path, TORCHSCRIPT), _extra_files=extra)
    assert [argument.name for argument in loaded.forward.schema.arguments] == ["self", *EXAMPLE]
    assert json.loads(extra["names.json"]) == {"inputs": list(EXAMPLE), "outputs": ["logits"]}
    assert not list(loaded.parameters()), "the graph is frozen"
    arrays = [torch.from_numpy(array[None]) for array in EXAMPLE.values()]
    (found,) = loaded(*arrays)
    torch.testing.assert_close(found, model(*arrays[:1], token_type_ids=arrays[1], attention_mask=arrays[2]).logits)


def test_int8_has_every_linear_layer_in_integers_and_stays_near_pytorch(
    weights: Path, tmp_path: Path, model: Any
) -> None:
    path = made(weights, tmp_path, TORCHSCRIPT, INT8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = str(torch.jit.load(path).inlined_graph)
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert code.count("quantized::linear_dynamic") == len(linear)
    batch = {name: array[None] for name, array in EXAMPLE.items()}
    found = open_backend("torchscript", {"model": path}).run("model", batch)["logits"]
    expected = model(**{name: torch.from_numpy(array) for name, array in batch.items()}).logits.detach().numpy()
    assert 0 < np.max(np.abs(found - expected)) < 0.05 * np.max(np.abs(expected))


def test_a_process_of_its_own_makes_the_same_graph(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    target = tmp_path / "model.pt"
    torch_graph.finish(torch_graph.start(TORCHSCRIPT, weights, AUTO_CLASS, GRAPH, EXAMPLE, target), target)
    batch = {name: array[None] for name, array in EXAMPLE.items()}
    (tmp_path / "own").mkdir()
    own = made(weights, tmp_path / "own", TORCHSCRIPT)
    first, second = (open_backend("torchscript", {"model": one}).run("model", batch) for one in (target, own))
    np.testing.assert_array_equal(first["logits"], second["logits"])


def test_what_the_exporter_said_last_is_told(weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.pt2"
    process = torch_graph.start(PT2, tmp_path / "nowhere", AUTO_CLASS, GRAPH, EXAMPLE, target)
    with pytest.raises(ExportError, match="the exporter failed:\n(.*\n)*.*nowhere"):
        torch_graph.finish(process, target)


def test_a_size_that_torch_export_bakes_in_is_refused(tmp_path: Path) -> None:
    class Flat(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor]:
            return (input_ids.reshape(2, 11).sum(1),)

    with pytest.raises((ExportError, ValueError, RuntimeError), match="specialized|baked|Constraints violated"):
        torch_graph._write_pt2(Flat(), {"input_ids": torch.ones(2, 11)}, tmp_path / "model.pt2", {})
    assert not (tmp_path / "model.pt2").exists()


# -- what is refused before any work ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "int8"), [(TORCHSCRIPT, False), (TORCHSCRIPT, True), (PT2, False)])
def test_what_can_be_made_here_is_not_refused(kind: str, int8: bool) -> None:
    check(kind, int8=int8)


def test_torchscript_is_refused_where_python_is_too_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    with pytest.raises(InvalidInput, match=r"--to: torch does not support TorchScript on Python .*give --to pt2"):
        check(TORCHSCRIPT)
    check(PT2)


def test_int8_is_refused_where_torch_export_would_fail() -> None:
    with pytest.raises(InvalidInput, match="--precision: torch.export does not take .*--precision fp32, or --to onnx"):
        check(PT2, int8="int8")


def test_int8_is_refused_where_torch_has_given_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "torch.ao.quantization":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidInput, match="quantize_dynamic any more.*--precision fp32, or --to onnx"):
        check(TORCHSCRIPT, int8="int8")
    check(TORCHSCRIPT)

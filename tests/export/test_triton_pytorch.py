"""A TorchScript graph as a plain model of Triton's pytorch backend: what is written, checked and refused."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from tritonclient.grpc import model_config_pb2 as pb

from export import triton_graph, triton_releases, triton_validation
from export.child import ExportError
from export.golden import Proof
from export.triton_accelerator import Accelerator
from export.triton_graph import Target, fit, place, prepared
from export.triton_pytorch import output_faults
from serving import model_config
from serving.backends.torchscript import Function
from serving.bundle import Bundle, digest_folder, open_bundle
from serving.errors import InvalidInput
from tests.serving.bundles import ARRAYS, LABELS, write_bundle

RELEASE = triton_releases.find(triton_releases.DEFAULT)
LIBTORCH = ".".join(version("torch").split(".")[:2])
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a tiny TorchScript graph. Read only."""
    return open_bundle(write_bundle(tmp_path_factory.mktemp("tiny"), "tiny", backend="torchscript"))


def proof(bundle: Bundle) -> Proof:
    task, rows = bundle.open_task(), bundle.golden()
    return Proof(rows, [task.encode(golden.row) for golden in rows], bundle.manifest.tolerance)


def written(bundle: Bundle, folder: Path, instances: int = 1) -> Path:
    """The model directory, put in place as export does it."""
    samples, (graph,) = proof(bundle).encoded, bundle.graph_files().values()
    target = Target(RELEASE, Accelerator(instances=instances))
    folder.mkdir(exist_ok=True)
    with prepared(folder, bundle.manifest, graph, bundle.open_task(), target, samples) as model:
        return place(model, folder).parent


@pytest.fixture
def model(bundle: Bundle, tmp_path: Path) -> Path:
    return written(bundle, tmp_path / "repository")


def test_inputs_go_by_argument_and_outputs_by_order(model: Path, bundle: Bundle) -> None:
    config = model_config.read(model)
    assert (config.name, config.backend, config.max_batch_size) == ("tiny_graph", "pytorch", 4)
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        (name, pb.TYPE_INT64, [-1]) for name in ARRAYS
    ]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [
        ("logits", pb.TYPE_FP32, [len(LABELS)])
    ]
    assert config.HasField("dynamic_batching")
    assert (model / "1" / "model.pt").read_bytes() == (bundle.folder / "model.pt").read_bytes()
    warmup = [f"warmup/1-{number}-{name}" for number in range(2) for name in ARRAYS]
    assert digest_folder(model).keys() == {"config.pbtxt", "1/model.pt", *warmup}


def test_whoever_opens_the_configuration_reads_which_server_it_needs(model: Path) -> None:
    first, *_ = (model / "config.pbtxt").read_text().splitlines()
    assert first == (
        f"# The graph of tiny, version 1, for a Triton whose pytorch backend has libtorch {LIBTORCH} or newer."
    )


@pytest.mark.parametrize(
    ("instances", "more"), [(1, {}), (3, {"INTRA_OP_THREAD_COUNT": "1", "ENABLE_WEIGHT_SHARING": "true"})]
)
def test_several_instances_share_weights_and_take_a_core_each(
    bundle: Bundle, tmp_path: Path, instances: int, more: dict[str, str]
) -> None:
    config = model_config.read(written(bundle, tmp_path, instances))
    assert [(group.kind, group.count) for group in config.instance_group] == [
        (pb.ModelInstanceGroup.KIND_CPU, instances)
    ]
    parameters = {name: parameter.string_value for name, parameter in config.parameters.items()}
    assert parameters == {"DISABLE_OPTIMIZED_EXECUTION": "true", "INFERENCE_MODE": "true", **more}


def test_the_graph_is_the_one_of_the_bundle_and_answers_its_golden_rows(bundle: Bundle, tmp_path: Path) -> None:
    (source,) = bundle.graph_files().values()
    done = fit(source, tmp_path / "fitted.pt", RELEASE, bundle.open_task(), proof(bundle))
    assert (tmp_path / "fitted.pt").read_bytes() == source.read_bytes()
    assert f"libtorch {LIBTORCH} or newer: TorchScript of {', '.join(ARRAYS)}, as exported; 2 of 2 golden" in done


def test_a_graph_with_other_answers_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (source,) = bundle.graph_files().values()
    sound = proof(bundle)
    shifted = [type(one)(one.row, {**one.answer, "logits": np.array(one.answer["logits"]) + 1}) for one in sound.rows]
    with pytest.raises(ExportError, match="2 of 2 golden rows are not reproduced"):
        fit(source, tmp_path / "f.pt", RELEASE, bundle.open_task(), Proof(shifted, sound.encoded, sound.tolerance))


def test_the_validator_runs_it_as_it_runs_onnx(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert triton_validation.main([str(model)]) == 0
    facts = capsys.readouterr().out.splitlines()
    assert facts[0].startswith(f"version 1:  TorchScript of {', '.join(ARRAYS)}, ")
    assert facts[1] == "version 1:  PyTorch answered 3 requests of the warm-up data"
    assert facts[2] == f"sound:      {model} for a Triton whose pytorch backend has libtorch {LIBTORCH} or newer"


def text(old: str, new: str) -> Change:
    """A change of config.pbtxt by hand."""

    def change(folder: Path) -> None:
        content = (folder / "config.pbtxt").read_text()
        assert old in content
        (folder / "config.pbtxt").write_text(content.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (text('name: "input_ids"', 'name: "ids"'), r"input name: the graph has no such argument, got 'ids'; it"),
        (text('name: "input_ids"', 'name: "ids"'), r"input: an argument of the graph is left out.*'input_ids'"),
        (text('"logits"', '"scores"'), r"output: are not the graph's, in its order, got \['scores'\]; .*: logits"),
        (text("dims: 3\n", "dims: 4\n"), r"output logits dims: a run gives shape \[1, 3\], got \[1, 4\]"),
        (text("data_type: TYPE_FP32", "data_type: TYPE_FP16"), r"output logits data_type: a run gives float32, got"),
        (text("KIND_CPU", "KIND_GPU"), r"instance_group kind: .*got \['KIND_GPU'\]; set KIND_CPU"),
        (text("INFERENCE_MODE", "INFERENCE"), r"parameters: unknown to the pytorch backend, got 'INFERENCE'; it has"),
        (
            lambda folder: (folder / "1" / "model.pt").write_bytes(b"no graph"),
            r"version 1: is no TorchScript graph \(.*torch .* cannot load it.*got 'model\.pt'",
        ),
        (lambda folder: (folder / "1" / "model.pt").unlink(), r"version 1: the graph is missing, got 'model\.pt'"),
    ],
)  # fmt: skip
def test_what_triton_would_stumble_over_is_told(model: Path, change: Change, told: str) -> None:
    change(model)
    faults = triton_validation.validate(model, RELEASE).faults
    assert [line for line in faults if re.search(told, line, re.DOTALL)], faults


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"to": "pt2"}, "--triton-graph: Triton's pytorch backend reads TorchScript.*got 'pt2'; give --to torchscript"),
        ({"triton_accelerator": "cuda"}, "--triton-accelerator: .*got 'cuda'; give cpu, or --to onnx"),
        ({"triton_release": "26.08"}, "--triton-release: .*got '26.08'; leave it out"),
    ],
)
def test_what_cannot_be_meant_is_told_before_any_work(words: dict[str, str], told: str) -> None:
    command = argparse.ArgumentParser()
    triton_graph.add_arguments(command, int)
    asked = {**vars(command.parse_args(["--triton-graph"])), "to": "torchscript", "precision": "fp32"}
    found = triton_graph.target(argparse.Namespace(**asked))
    assert found == Target(RELEASE, Accelerator())
    with pytest.raises(InvalidInput, match=told):
        triton_graph.target(argparse.Namespace(**{**asked, **words}))


def test_a_name_that_triton_reads_as_an_index_is_told() -> None:
    graph = Function(torch.nn.Identity(), ["ids"], ["hidden__1", "logits"])
    config = pb.ModelConfig()
    for name in graph.outputs:
        config.output.add(name=name)
    (told,) = output_faults(config, graph)
    assert "is read as the index of an output, got 'hidden__1'" in told

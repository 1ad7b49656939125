"""TorchScript graphs for Triton's ``pytorch`` backend.

The rules are those of github.com/triton-inference-server/pytorch_backend, src/pt/model_instance_state.cc: inputs are
found by the names of forward's arguments, outputs by their order in the configuration, unless a name ends in
``__INDEX``. So both sides speak of the task's fields, and a gateway that reads ``logits`` from an ONNX graph reads it
from this one. The parameters are those of its README.md; it takes no notice of unknown ones.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from export import triton_accelerator
from export.torch_graph import GRAPH_FILES, TORCHSCRIPT
from export.triton_accelerator import Accelerator
from export.triton_kind import Kind
from export.triton_releases import Release
from serving.backends import torchscript
from serving.backends.torchscript import Function
from serving.errors import BundleError, InvalidInput, fault
from serving.tensors import Field

PARAMETERS = frozenset(
    (
        "DISABLE_OPTIMIZED_EXECUTION",
        "INFERENCE_MODE",
        "DISABLE_CUDNN",
        "ENABLE_CACHE_CLEANING",
        "ENABLE_WEIGHT_SHARING",
        "ENABLE_TENSOR_FUSER",
        "ENABLE_JIT_PROFILING",
        "ENABLE_JIT_EXECUTOR",
        "INTER_OP_THREAD_COUNT",
        "INTRA_OP_THREAD_COUNT",
    )
)
BY_INDEX = re.compile(r"__\d*$")


def check(to: str, release: str | None, accelerator: Accelerator, *, graph_model: bool) -> None:
    """Raise InvalidInput, before any work, for what the options cannot mean where no ONNX graph is made."""
    if release is not None:
        problem = "is about the ONNX Runtime of a release, and no ONNX graph is made"
        raise InvalidInput(fault("--triton-release", problem, release, "leave it out, or give --to onnx"))
    if graph_model and to != TORCHSCRIPT:
        remedy = f"give --to {TORCHSCRIPT}, or --to onnx"
        problem = "Triton's pytorch backend reads TorchScript, and of torch.export only what AOTInductor compiled"
        raise InvalidInput(fault("--triton-graph", problem, to, remedy))
    if accelerator.name != triton_accelerator.CPU:
        problem = "a graph traced on a CPU makes some of its tensors there"
        raise InvalidInput(fault("--triton-accelerator", problem, accelerator.name, "give cpu, or --to onnx"))


def load(path: Path) -> Function:
    """The graph, and what it calls its inputs and outputs. Raises ValueError when it is none."""
    try:
        return torchscript.open_graphs({"graph": path}).functions["graph"]
    except BundleError as error:
        raise ValueError(str(error)) from error


def server(release: Release) -> str:
    """Which server reads it: older libraries refuse what newer ones saved."""
    return f"a Triton whose pytorch backend has libtorch {_release(version('torch'))} or newer"


def _release(text: str) -> str:
    return ".".join(text.split(".")[:2])


def fit(source: Path, path: Path, release: Release) -> list[str]:
    """Write the graph as it is: there is no older form of it."""
    shutil.copyfile(source, path)
    return []


def configure(
    accelerator: Accelerator,
    config: pb.ModelConfig,
    inputs: Sequence[Field],
    tuned: Mapping[str, int],
    most: Mapping[str, int],
) -> None:
    """Write what runs it into a configuration: so many instances, each on a core of its own, with the same weights."""
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=accelerator.instances)
    # A frozen graph gains nothing from TorchScript's optimizer, whose profiling makes the first runs ten times as long.
    given = {"DISABLE_OPTIMIZED_EXECUTION": "true", "INFERENCE_MODE": "true"}
    if accelerator.instances > 1:
        # Otherwise each takes all the cores, and loads weights of its own.
        given |= {"INTRA_OP_THREAD_COUNT": "1", "ENABLE_WEIGHT_SHARING": "true"}
    for name, value in given.items():
        config.parameters[name].string_value = value


def input_faults(config: pb.ModelConfig, graph: Function) -> Iterator[str]:
    """What of the inputs would keep Triton from loading the graph, or from passing each where it belongs."""
    names = [one.name for one in config.input]
    for name in graph.inputs:
        if name not in names:
            remedy = f"add input {{ name: {name!r} }} with its data_type and dims"
            yield fault("input", "an argument of the graph is left out", names, remedy)
    for one in config.input:
        if one.name not in graph.inputs:
            remedy = f"it has {', '.join(graph.inputs)}"
            yield fault("input name", "the graph has no such argument", one.name, remedy)
        elif one.optional:
            yield fault(f"input {one.name} optional", "the graph needs it", one.optional, "remove optional")


def output_faults(config: pb.ModelConfig, graph: Function) -> Iterator[str]:
    """What of the outputs Triton would take for another one: it knows them by their order only."""
    names = [one.name for one in config.output]
    if not names or names != list(graph.outputs)[: len(names)]:
        remedy = f"name them in this order: {', '.join(graph.outputs)}"
        yield fault("output", "are not the graph's, in its order", names, remedy)
    for name in filter(BY_INDEX.search, names):
        yield fault("output name", "is read as the index of an output", name, "give the field a name without __")


def config_faults(config: pb.ModelConfig, graphs: Sequence[Function]) -> Iterator[str]:
    """What of the configuration the backend would leave out without a word, or fail on at the first request."""
    for name in sorted(set(config.parameters) - PARAMETERS):
        yield fault("parameters", "unknown to the pytorch backend", name, f"it has {', '.join(sorted(PARAMETERS))}")
    kinds = [pb.ModelInstanceGroup.Kind.Name(group.kind) for group in config.instance_group]
    if kinds != ["KIND_CPU"] * max(1, len(kinds)):
        problem = "a graph traced on a CPU makes some of its tensors there"
        yield fault("instance_group kind", problem, kinds, "set KIND_CPU")


KIND = Kind(
    backend="pytorch",
    runner="torchscript",
    engine="PyTorch",
    file=GRAPH_FILES[TORCHSCRIPT],
    noun="TorchScript graph",
    load=load,
    describe=lambda graph, release: f"TorchScript of {', '.join(graph.inputs)}",
    server=server,
    oldest=server,
    fit=fit,
    configure=configure,
    input_faults=input_faults,
    output_faults=output_faults,
    version_faults=lambda graph, release: (),
    config_faults=config_faults,
)

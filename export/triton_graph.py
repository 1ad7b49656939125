"""``NAME_graph``: the graph alone as a plain Triton model, for NVIDIA's own backend of its format."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from export import triton_accelerator, triton_config, triton_pytorch, triton_releases, triton_validation, triton_warmup
from export.child import ExportError
from export.golden import Proof
from export.triton_accelerator import Accelerator
from export.triton_kind import Kind
from export.triton_releases import Release
from export.triton_validation import KINDS
from export.verification import run_singly
from serving import model_config
from serving.backends import open_backend
from serving.bundle import differences
from serving.errors import BundleError, InvalidInput, fault, listed
from serving.manifest import Manifest
from serving.staging import backend_in, publish, staged
from serving.tasks import Task
from serving.tensors import Tensors, sizes

SUFFIX = "_graph"
ONNX = "onnx"


@dataclass(frozen=True)
class Target:
    """The server that a graph model is written for."""

    release: Release
    accelerator: Accelerator


def add_arguments(command: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """The options of a graph model; ``count`` reads a whole number of at least 1."""
    group = command.add_argument_group(
        "a plain Triton model of the graph alone",
        "Besides the bundle NAME, NAME_graph for NVIDIA's onnxruntime backend, or pytorch for TorchScript: the arrays "
        "of the graph in and out, for a gateway or a backend that tokenizes, pads and decodes. It is validated before "
        "it is put in place.",
    )
    group.add_argument("--triton-graph", action="store_true", help="write NAME_graph too")
    group.add_argument(
        "--triton-release", metavar="YY.MM",
        help=f"oldest Triton release that must load the graphs, also that of the bundle: opset and IR version are "
             f"fitted to its ONNX Runtime, {min(triton_releases.RUNTIMES)} to {max(triton_releases.RUNTIMES)} "
             f"(default: the bundle as it was exported, NAME_graph for {triton_releases.DEFAULT})",
    )  # fmt: skip
    group.add_argument(
        "--triton-accelerator", choices=triton_accelerator.NAMES, default=triton_accelerator.CPU,
        help="what runs it (default cpu); cuda, and tensorrt in FP16, need --precision fp32",
    )  # fmt: skip
    group.add_argument(
        "--triton-instances", type=count, metavar="N", default=1,
        help="copies that run at the same time, on a CPU with one thread each, so that N cores are used; a single one "
             "takes all the cores it sees (default 1)",
    )  # fmt: skip
    group.add_argument(
        "--triton-engine-cache", metavar="DIR",
        help="folder on the server that keeps TensorRT engines; without it one is built at every start",
    )  # fmt: skip


def target(args: argparse.Namespace) -> Target | None:
    """What the options ask for, or None. Raises InvalidInput, before any work, for what cannot be."""
    accelerator = Accelerator(args.triton_accelerator, args.triton_instances, args.triton_engine_cache)
    release = triton_releases.find(args.triton_release or triton_releases.DEFAULT)
    if args.to != ONNX:
        triton_pytorch.check(args.to, args.triton_release, accelerator, graph_model=args.triton_graph)
    if not args.triton_graph:
        if accelerator != Accelerator():
            raise InvalidInput("these --triton options are for the graph model; add --triton-graph")
        return None
    accelerator.check(args.precision)
    return Target(release, accelerator)


def check_place(model: Path) -> None:
    """Raise InvalidInput, before any work, where something that is no graph model is in the way."""
    if backend_in(model) in KINDS:
        return
    if not model.exists() or (model.is_dir() and all(map(_is_leftover, model.iterdir()))):
        return
    found = sorted(path.name for path in model.iterdir()) if model.is_dir() else "a file"
    raise InvalidInput(
        fault("--triton-graph", f"{model} is no graph model", found, "move it away, or give another --name")
    )


def _is_leftover(path: Path) -> bool:
    """Whether it is what a killed writer of a graph model leaves: everything but the configuration, at most."""
    if path.name.isdigit() and path.is_dir():
        return {file.name for file in path.iterdir()} <= {kind.file for kind in KINDS.values()}
    return path.name == triton_warmup.FOLDER or (path.name.startswith(".") and path.name.endswith(".writing"))


def fit(source: Path, path: Path, release: Release, task: Task, proof: Proof) -> str:
    """Write the graph to ``path`` as the release reads it, and have it answer the golden rows; what was done, in words.

    Raises ExportError when it cannot be fitted, or its answers are others than those agreed for the graph as it was.
    """
    kind = kind_of(source)
    changes = "; ".join(kind.fit(source, path, release))
    (name,) = task.graphs
    try:
        answers = run_singly(open_backend(kind.runner, {name: path}), task, proof.encoded)
    except BundleError as error:
        raise ExportError(f"{changes}: {error}") from error
    pairs = zip(answers, proof.rows, strict=True)
    compared = [differences(answer, golden.answer, proof.tolerance) for answer, golden in pairs]
    wrong = ["; ".join(lines) for lines in compared if lines]
    if wrong:
        raise ExportError(
            f"{kind.server(release)}: {changes or 'the graph as it is'}: {len(wrong)} of {len(proof.rows)} golden rows "
            f"are not reproduced; first: {wrong[0]}; give a newer --triton-release"
        )
    how = changes or f"{kind.describe(kind.load(path), release)}, as exported"
    return f"{kind.server(release)}: {how}; {len(proof.rows)} of {len(proof.rows)} golden rows reproduced"


def kind_of(graph: Path) -> Kind:
    """The kind of graph model that a file is for."""
    return next(kind for kind in KINDS.values() if Path(kind.file).suffix == graph.suffix)


def config(manifest: Manifest, task: Task, target: Target, samples: Sequence[Tensors]) -> pb.ModelConfig:
    """The configuration of a graph model, warm-up left out; ``samples`` are encoded rows, for usual sizes."""
    ((name, graph),) = task.graphs.items()
    kind = kind_of(Path(manifest.graphs[name]))
    # Where an answer depends on the rows of a batch (dynamic INT8), each row is a batch, as it was verified.
    batch = manifest.max_batch_size if manifest.batch_invariant else 1
    made = pb.ModelConfig(name=manifest.name + SUFFIX, backend=kind.backend, max_batch_size=batch)
    for field in graph.inputs:
        made.input.add(name=field.name, data_type=model_config.data_type(field), dims=field.dims(task.axes))
    for field in graph.outputs:
        made.output.add(name=field.name, data_type=model_config.data_type(field), dims=field.dims(task.axes))
    if batch > 1:
        made.dynamic_batching.SetInParent()
    made.version_policy.latest.num_versions = 1
    found = [sizes(row, graph.inputs) for row in samples]
    usual = {axis: int(np.median([row[axis] for row in found])) for axis in found[0]}
    kind.configure(target.accelerator, made, graph.inputs, usual, task.max_sizes)
    return made


def _remarks(manifest: Manifest, kind: Kind, target: Target) -> str:
    """What whoever opens the file should know, as comments."""
    lines = [
        f"The graph of {manifest.name}, version {manifest.version}, for {kind.oldest(target.release)}.",
        "The caller tokenizes, and pads the rows of a request to one length; requests of equal shape are batched.",
    ]
    if not manifest.batch_invariant:
        lines[1] = "The caller tokenizes. One row a request: what this graph answers depends on the rows of a batch."
    if target.accelerator.name == triton_accelerator.TENSORRT:
        lines.append("Verified in FP32. The server builds the FP16 engine: compare its answers with the golden rows.")
    return "".join(f"# {line}\n" for line in lines)


@contextmanager
def prepared(
    repository: Path, manifest: Manifest, graph: Path, task: Task, target: Target, samples: Sequence[Tensors]
) -> Iterator[Path]:
    """A whole, validated graph model in a hidden folder of ``repository/NAME_graph``, to put in place with ``place``.

    Raises ExportError that lists what is wrong with it; when the block fails, nothing is left behind.
    """
    name, version = manifest.name + SUFFIX, manifest.version
    with staged(repository / name, version) as staging:
        model = staging / name
        (model / str(version)).mkdir(parents=True)
        kind = kind_of(graph)
        shutil.copyfile(graph, model / str(version) / kind.file)
        made = config(manifest, task, target, samples)
        (fields,) = task.graphs.values()
        triton_warmup.write(model, made, version, triton_warmup.choose(samples, fields.inputs), fields.inputs)
        triton_config.write(model, _remarks(manifest, kind, target) + str(text_format.MessageToString(made)))
        found = triton_validation.validate(model, target.release)
        if found.faults:
            raise ExportError(f"{name}: {listed(found.faults)}")
        yield model


def place(model: Path, repository: Path) -> Path:
    """Put a prepared graph model in place, beside the versions before it; its version directory."""
    final = repository / model.name
    (version,) = (path for path in model.iterdir() if path.name.isdigit())
    (final / triton_warmup.FOLDER).mkdir(exist_ok=True)
    for path in sorted((model / triton_warmup.FOLDER).iterdir()):
        publish(path, final / triton_warmup.FOLDER / path.name)
    publish(version, final / version.name)
    # The configuration last: the one before it finds all that it names until then.
    text = (model / model_config.FILE).read_text("utf-8")
    triton_config.write(final, text)
    kept = triton_warmup.files(text_format.Parse(text, pb.ModelConfig()))
    for path in (final / triton_warmup.FOLDER).iterdir():
        if path.name not in kept:
            path.unlink()
    return final / version.name

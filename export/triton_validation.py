"""``downstream triton-validate``: a graph model as Triton's own backend would load it, without a server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import model_config_pb2 as pb

from export import triton_onnx, triton_pytorch, triton_releases, triton_tensors, triton_warmup
from export.triton_kind import Kind
from export.triton_releases import Release
from serving import model_config
from serving.backends import open_backend
from serving.errors import BundleError, InvalidInput, fault, listed
from serving.tensors import Tensors

KINDS = {kind.backend: kind for kind in (triton_onnx.KIND, triton_pytorch.KIND)}
WRONG, FAULTY = 2, 3
# Of the free axes of an input, where there is no warm-up request to run.
TRIAL_LENGTH = 8


@dataclass
class Findings:
    """Everything that is wrong with a model, what was looked at, and which server it is for."""

    faults: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    server: str = ""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="downstream triton-validate",
        description="Check a model of Triton's onnxruntime or pytorch backend, such as the NAME_graph of `downstream "
        "export --triton-graph`, as the server would at load; no server is needed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  downstream triton-validate model_repository/tickets_graph
  downstream triton-validate model_repository/tickets_graph --triton-release 26.08
  downstream triton-validate /models/tickets_graph && docker restart triton

What is checked, after each change of config.pbtxt by hand too:
  config.pbtxt    is a ModelConfig; its name is the directory's, its backend onnxruntime or pytorch
  version_policy  the versions that it wants are there, each with its graph
  graph           opset and IR version are within what the release's ONNX Runtime loads; TorchScript is readable here
  input, output   names, types and dims against the graph; the batch axis is free where max_batch_size > 0
  model_warmup    every input is given, its file is there and has the bytes of its shape
  accelerators    TensorRT's parameters are known, its shape ranges in order
  a run           ONNX Runtime, or PyTorch, answers the warm-up requests (zeros where there are none), alone and two
                  at a time

All faults are told together, each with the field, the value and the remedy. Engines of TensorRT are not built here.

exit codes: 0 sound, 2 wrong input, 3 the model has faults""",
    )
    command.add_argument("model", type=Path, metavar="MODEL_DIRECTORY", help="as model_repository/NAME_graph")
    command.add_argument(
        "--triton-release", metavar="YY.MM", default=triton_releases.DEFAULT,
        help=f"oldest release that must load it (default {triton_releases.DEFAULT}; "
             f"{min(triton_releases.RUNTIMES)} to {max(triton_releases.RUNTIMES)})",
    )  # fmt: skip
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    args = parser().parse_args(argv)
    folder = args.model.resolve()
    try:
        release = triton_releases.find(args.triton_release)
        if not (folder / model_config.FILE).is_file():
            raise InvalidInput(
                f"{args.model}: holds no {model_config.FILE}; give the directory of one model, as "
                "model_repository/NAME_graph"
            )
        found = validate(folder, release)
    except (InvalidInput, OSError) as error:
        print(f"downstream triton-validate: {error}", file=sys.stderr)
        return WRONG
    for line in found.facts:
        print(line)
    if found.faults:
        print(f"downstream triton-validate: {args.model}: {listed(found.faults)}", file=sys.stderr)
        return FAULTY
    print(f"sound:      {args.model} for {found.server}")
    return 0


def validate(folder: Path, release: Release) -> Findings:
    """Look at everything of a model directory that Triton would; nothing is raised for what is wrong with it."""
    found = Findings()
    try:
        config = model_config.parse(folder)
    except BundleError as error:
        found.faults.append(str(error))
        return found
    if config.name not in ("", folder.name):
        found.faults.append(fault("name", "is not that of the directory", config.name, f"set name: {folder.name!r}"))
    kind = KINDS.get(config.backend)
    if kind is None:
        remedy = f"set backend: {' or '.join(map(repr, KINDS))}, or give the directory of a graph model"
        found.faults.append(fault("backend", "is not one checked here", config.backend, remedy))
        return found
    if config.max_batch_size < 0:
        found.faults.append(fault("max_batch_size", "is negative", config.max_batch_size, "give 0 or more"))
        return found
    found.server = kind.server(release)
    loaded = {path: _load(kind, path, found) for path in _graph_files(kind, folder, config, found)}
    graphs = {path: graph for path, graph in loaded.items() if graph is not None}
    inputs = {path: list(kind.input_faults(config, graph)) for path, graph in graphs.items()}
    ahead = {
        path: [*kind.version_faults(graph, release), *inputs[path], *kind.output_faults(config, graph)]
        for path, graph in graphs.items()
    }
    for path, lines in ahead.items():
        found.faults += [f"version {path.parent.name}: {line}" for line in lines]
        place, size = f"version {path.parent.name}:", path.stat().st_size / 1e6
        found.facts.append(f"{place:<12}{kind.describe(graphs[path], release)}, {size:.1f} MB")
    # Requests are compared with the inputs, which must be right before that.
    requests = [] if any(inputs.values()) else triton_warmup.read(folder, config, found.faults)
    found.faults += kind.config_faults(config, list(graphs.values()))
    for path, lines in ahead.items():
        if not lines:
            _try(kind, path, config, requests, found)
    return found


def _graph_files(kind: Kind, folder: Path, config: pb.ModelConfig, found: Findings) -> list[Path]:
    """The graph of every version that the policy wants, and that is there."""
    # As Triton has it, versions are written without leading zeros.
    there = sorted(int(p.name) for p in folder.iterdir() if p.is_dir() and p.name.isdigit() and p.name[0] != "0")
    chosen = model_config.chosen_versions(config, there)
    wanted = list(config.version_policy.specific.versions) or chosen
    if not chosen or set(wanted) - set(there):
        missing = sorted(set(wanted) - set(there)) or "no version"
        remedy = f"the version directories are {there}; export the model again, or change the policy"
        found.faults.append(fault("version_policy", "wants what is not there", missing, remedy))
    files = [folder / str(version) / (config.default_model_filename or kind.file) for version in chosen]
    for path in files:
        if not path.is_file():
            remedy = "put the graph there, or correct default_model_filename"
            found.faults.append(fault(f"version {path.parent.name}", "the graph is missing", path.name, remedy))
    return [path for path in files if path.is_file()]


def _load(kind: Kind, path: Path, found: Findings) -> Any:
    try:
        return kind.load(path)
    except ValueError as error:
        problem, remedy = f"is no {kind.noun} ({error})", "export the model again"
        found.faults.append(fault(f"version {path.parent.name}", problem, path.name, remedy))
        return None


def _try(kind: Kind, path: Path, config: pb.ModelConfig, requests: Sequence[Tensors], found: Findings) -> None:
    """Run the graph as Triton would at load, and once with two rows where it may be sent batches."""
    place, real = f"version {path.parent.name}", bool(requests)
    trials = list(requests) or [triton_warmup.zeros(config, TRIAL_LENGTH)]
    if config.max_batch_size > 1:
        trials.append({name: np.repeat(array, 2, axis=0) for name, array in trials[-1].items()})
    try:
        backend = open_backend(kind.runner, {place: path})
        for trial in trials:
            rows = len(next(iter(trial.values()))) if config.max_batch_size else 1
            results = dict(backend.run(place, trial))
            wrong = [f"{place}: {line}" for line in triton_tensors.result_faults(config, rows, results, finite=real)]
            found.faults += [line for line in wrong if line not in found.faults]
    except Exception as error:  # neither ONNX Runtime's nor torch's exceptions have a common root
        remedy = "export the model again"
        found.faults.append(fault(place, f"{kind.engine} cannot run it: {error}", path.name, remedy))
        return
    what = "the warm-up data" if real else "zeros"
    found.facts.append(f"{f'{place}:':<12}{kind.engine} answered {len(trials)} requests of {what}")


if __name__ == "__main__":
    sys.exit(main())

"""``downstream export``: a checkpoint to a verified bundle in the model repository."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import transformers
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from export import bundle_writer, golden, ladder, onnx_graph, report, triton_graph
from export.ladder import BACKEND, Evidence, GateFailed, Trial
from export.sweep import sweep
from finetune.checkpoint import MODEL, Checkpoint, open_checkpoint
from finetune.prediction import predict
from serving.backends import open_backend
from serving.bundle import Manifest, write_json
from serving.errors import BundleError, DownstreamError
from serving.tasks import Task, find
from serving.tensors import Row, Tensors, check

FAULTY, GATE_FAILED = 2, 3
GRAPH_FILE = "model.onnx"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="downstream export",
        description="Export a checkpoint, verify the graph on the validation split, and write the bundle.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""examples:
  downstream export runs/tickets --to onnx --precision int8
  downstream export runs/tickets --precision fp32 --name tickets-fp32
  downstream export runs/tickets --precision int8-dynamic
  downstream export runs/tickets --tolerance 0.5 --repository /srv/models
  downstream export runs/tickets --triton-graph --triton-instances 4
  downstream export runs/tickets --precision fp32 --triton-graph --triton-accelerator tensorrt

Every version proves itself: the graph is compared with PyTorch over shapes and over the validation split, by the
backend that will serve it. The report is CHECKPOINT/export/report.html, also when a gate fails.

exit codes: 0 written, 2 wrong input, 3 a gate failed and nothing was written to the repository""",
    )
    command.add_argument("checkpoint", type=Path, help="folder of a finished training run, as runs/NAME")
    command.add_argument("--to", choices=["onnx"], default="onnx", help="format of the graph (default onnx)")
    command.add_argument(
        "--precision", choices=list(ladder.LADDERS), default="int8",
        help="of the graph; int8 is the static kind (training rows give the scales, so rows may be batched) or, where "
             "that one loses too much, the dynamic kind (default int8)",
    )  # fmt: skip
    command.add_argument("--name", help="name of the model in the repository (default: the checkpoint's)")
    command.add_argument("--repository", type=Path, default=Path("model_repository"), help="default model_repository")
    command.add_argument(
        "--tolerance", type=float, default=1.0, metavar="POINTS",
        help="points of the first metric (hundredths) that the graph may lose against PyTorch (default 1)",
    )  # fmt: skip
    command.add_argument(
        "--rows", type=positive, default=5000, help="validation rows to verify on, at most (default 5000)"
    )
    command.add_argument("--max-batch-size", type=positive, default=32, help="rows of one request (default 32)")
    triton_graph.add_arguments(command, positive)
    return command


def positive(text: str) -> int:
    """A whole number of at least 1. Raises ValueError, which argparse reports."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    args = parser().parse_args(argv)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    name = args.name or args.checkpoint.resolve().name
    try:
        bundle_writer.check_name(name)
        bundle_writer.check_repository(args.repository)
        bundle_writer.check_place(args.repository / name)
        target = triton_graph.target(args)
        if target:
            triton_graph.check_place(args.repository / (name + triton_graph.SUFFIX))
        written = export(open_checkpoint(args.checkpoint), name, target, args)
    except GateFailed as error:
        print(f"downstream export: {error}\nnothing was written to {args.repository}; "
              f"report: {args.checkpoint / 'export' / 'report.html'}", file=sys.stderr)  # fmt: skip
        return GATE_FAILED
    except (DownstreamError, OSError) as error:
        print(f"downstream export: {error}", file=sys.stderr)
        return FAULTY
    for what, path in written.items():
        print(f"{what + ':':<12}{path}")
    print(f"next:       downstream serve {args.repository}")
    return 0


def export(
    checkpoint: Checkpoint, name: str, target: triton_graph.Target | None, args: argparse.Namespace
) -> dict[str, Path]:
    """The story of the stage: graph, sweep, quantize, measure, gates, golden rows, bundle, graph model.

    The version directories that were written, by what they are.
    """
    task = find(checkpoint.task).open(checkpoint.assets)
    rows = _validation_rows(checkpoint, args.rows)
    encoded, calibration = _encode(task, rows), _encode(task, checkpoint.calibration())
    ladder.check(args.precision, calibrated=bool(calibration))
    evidence, output = Evidence(), checkpoint.folder / "export"
    output.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="downstream-export-") as temporary:
        fp32, fitted = Path(temporary) / "fp32.onnx", Path(temporary) / "fitted.onnx"
        try:
            reference = _export_fp32(checkpoint, task, encoded, fp32, evidence)
            trial = Trial(task, rows, encoded, reference, calibration)
            graph = ladder.climb(trial, args.precision, fp32, args.tolerance, evidence)
            proof = golden.prove(task, rows, encoded, reference, evidence.candidates[-1].answers)
            if target:
                done = triton_graph.fit(graph, fitted, target.release, task, proof)
                evidence.gates.append((True, done))
                print(done)
        except onnx_graph.ExportError as error:
            evidence.gates.append((False, str(error)))
            raise GateFailed(str(error)) from error
        finally:
            _write_reports(output, name, args.precision, evidence)
        places = [args.repository / name, *([args.repository / (name + triton_graph.SUFFIX)] if target else [])]
        manifest = _manifest(checkpoint, name, task, bundle_writer.next_version(*places), proof, evidence, args)
        files = dict.fromkeys(task.graphs, graph)
        try:
            with ExitStack() as stack:
                # Both are whole and proved before either is put in place.
                model = target and stack.enter_context(
                    triton_graph.prepared(args.repository, manifest, fitted, task, target, proof.encoded)
                )
                final = bundle_writer.write(args.repository, manifest, files, checkpoint.assets, proof.rows, task)
                return {"bundle": final, **({"graph": triton_graph.place(model, args.repository)} if model else {})}
        except (BundleError, onnx_graph.ExportError) as error:
            raise GateFailed(str(error)) from error


def _validation_rows(checkpoint: Checkpoint, limit: int) -> list[dict[str, Any]]:
    rows = checkpoint.validation()
    if len(rows) > limit:
        rows = random.Random(0).sample(rows, limit)
    return rows


def _encode(task: Task, rows: Sequence[Row]) -> list[Tensors]:
    inputs = [field.name for field in task.inputs]
    return [task.encode({name: row[name] for name in inputs if name in row}) for row in rows]


def _export_fp32(
    checkpoint: Checkpoint, task: Task, encoded: Sequence[Tensors], path: Path, evidence: Evidence
) -> list[Row]:
    """Write the FP32 graph and sweep it against PyTorch; PyTorch's answers."""
    ((name, graph),) = task.graphs.items()
    weights = checkpoint.folder / MODEL
    print("exporting to ONNX (about 20 s), while PyTorch answers the validation split")
    example = task.encode(check(task.example, task.inputs))
    process = onnx_graph.start(weights, task.auto_class, graph, example, path)
    try:
        model = getattr(transformers, task.auto_class).from_pretrained(weights).eval()
        with tqdm(total=len(encoded), desc="PyTorch", unit="row") as bar:
            reference = predict(model, task, encoded, bar.update)
        onnx_graph.finish(process, graph, path)
    finally:
        process.kill()
    backend = open_backend(BACKEND, {name: path})
    evidence.sweep = sweep(model, backend, name, graph, model.config.vocab_size, min(task.max_sizes.values()))
    print(f"shapes: {len(evidence.sweep)} swept, batch 1 to 5; largest relative difference "
          f"{max(swept.difference for swept in evidence.sweep):.2g}")  # fmt: skip
    return reference


def _manifest(
    checkpoint: Checkpoint,
    name: str,
    task: Task,
    version: int,
    proof: golden.Proof,
    evidence: Evidence,
    args: argparse.Namespace,
) -> Manifest:
    kept = evidence.candidates[-1]
    return Manifest(
        name=name,
        version=version,
        task=checkpoint.task,
        backend=BACKEND,
        precision=kept.name,
        graphs=dict.fromkeys(task.graphs, GRAPH_FILE),
        tolerance=proof.tolerance,
        max_batch_size=args.max_batch_size,
        batch_invariant=kept.invariance is not None and kept.invariance.held,
        quality={candidate.name: candidate.summary() for candidate in evidence.candidates},
        source=_source(checkpoint),
    )


def _write_reports(output: Path, name: str, precision: str, evidence: Evidence) -> None:
    write_json(output / "report.json", report.as_json(evidence.candidates, evidence.sweep, evidence.gates))
    report.write(
        output / "report.html", f"{name}, ONNX {precision}", evidence.candidates, evidence.sweep, evidence.gates
    )
    print(f"report:     {output / 'report.html'}")


def _source(checkpoint: Checkpoint) -> dict[str, Any]:
    kept = {key: checkpoint.manifest[key] for key in ("base_model", "data_digest", "seed", "versions")}
    weights = {n: d for n, d in checkpoint.manifest["files"].items() if n.endswith(".safetensors")}
    exported = datetime.now(UTC).isoformat(timespec="seconds")
    return {**kept, "weights": weights, "exported": exported}


if __name__ == "__main__":
    sys.exit(main())

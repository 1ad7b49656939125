"""``downstream export``: a checkpoint to a verified bundle in the model repository."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from export import bundle_writer, judging, ladder, report, triton_graph
from export.delivery import Delivery
from export.evidence import Candidate, Evidence
from export.floating import make_floats
from export.ladder import Bench, GateFailed
from export.onnx_graph import ExportError
from export.options import parser
from export.rungs import FP32, Source, rungs_of
from export.trial import TrialError
from export.verification import verify
from finetune.checkpoint import Checkpoint, open_checkpoint
from serving import processor
from serving.errors import BundleError, DownstreamError
from serving.processor import VNNI
from serving.tasks import Task, find
from serving.tensors import Row, Tensors, sizes

FAULTY = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    args = parser().parse_args(argv)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    args.name = args.name or args.checkpoint.resolve().name
    args.quarantine = args.quarantine or args.repository.absolute().parent / "quarantine"
    try:
        written = export(_checked(args), args)
    except GateFailed as error:
        print(f"downstream export: {error}\nnothing was written to {args.repository}; "
              f"report: {args.checkpoint / 'export' / report.HTML}", file=sys.stderr)  # fmt: skip
        return error.code
    except (DownstreamError, OSError) as error:
        print(f"downstream export: {error}", file=sys.stderr)
        return FAULTY
    for what, path in written.items():
        print(f"{what + ':':<12}{path}")
    print(f"next:       downstream serve {args.repository}")
    return 0


def _checked(args: argparse.Namespace) -> Checkpoint:
    """The checkpoint. Raises InvalidInput or BundleError, before any work, for what cannot be done."""
    bundle_writer.check_name(args.name)
    bundle_writer.check_repository(args.repository)
    bundle_writer.check_place(args.repository / args.name)
    args.accepted = judging.parse_accepted(args.accept)
    args.target = triton_graph.target(args)
    if args.target:
        triton_graph.check_place(args.repository / (args.name + triton_graph.SUFFIX))
    checkpoint = open_checkpoint(args.checkpoint)
    args.rungs, args.left_out = rungs_of(args.precision, calibrated=bool(checkpoint.calibration()))
    return checkpoint


def export(checkpoint: Checkpoint, args: argparse.Namespace) -> dict[str, Path]:
    """The story of the stage: a floating-point graph, its kinds in integers, gates, golden rows, bundle.

    The version directories that were written, by what they are.
    """
    task, evidence = find(checkpoint.task).open(checkpoint.assets), Evidence()
    rows = _validation_rows(checkpoint, args.rows)
    encoded = _encode(task, rows)
    with tempfile.TemporaryDirectory(prefix="downstream-export-") as temporary:
        delivery = Delivery(checkpoint, task, rows, encoded, evidence, Path(temporary), args)
        try:
            return delivery.publish(_search(delivery))
        except (ExportError, TrialError, BundleError) as error:
            evidence.failure = str(error)
            raise GateFailed(str(error)) from error
        except GateFailed as error:
            evidence.failure = str(error)
            print(f"quarantine: {delivery.quarantine()}")
            raise
        finally:
            delivery.write_reports(checkpoint.folder / "export")


def _search(delivery: Delivery) -> Candidate:
    """Try graphs until one is kept. Raises GateFailed, ExportError and TrialError."""
    checkpoint, task, rows = delivery.checkpoint, delivery.task, delivery.rows
    evidence, args = delivery.evidence, delivery.args
    (graph,) = task.graphs.values()
    answers, floats = make_floats(checkpoint, task, delivery.encoded, delivery.folder)
    evidence.sweep = list(floats.sweep)
    evidence.reference = verify("pytorch", task, rows, answers, answers)
    lengths = [max(sizes(row, graph.inputs).values()) for row in delivery.encoded]
    bench = Bench(
        task, checkpoint.task, checkpoint.assets, rows, lengths, evidence.reference, args.tolerance, args.accepted
    )
    first = ladder.start(bench, floats, evidence)
    if args.precision == FP32:
        return ladder.keep(first, evidence)
    if args.left_out:
        evidence.remarks.append(args.left_out)
        print(args.left_out)
    calibration = _encode(task, checkpoint.calibration())
    seven_bits = args.portable or not processor.read().has(VNNI)
    source = Source(floats.to_quantize, graph, calibration, seven_bits, delivery.folder)
    return ladder.climb(bench, args.rungs, source, first, evidence, best=args.best)


def _validation_rows(checkpoint: Checkpoint, limit: int) -> list[dict[str, Any]]:
    rows = checkpoint.validation()
    if len(rows) > limit:
        rows = random.Random(0).sample(rows, limit)
    return rows


def _encode(task: Task, rows: Sequence[Row]) -> list[Tensors]:
    inputs = [field.name for field in task.inputs]
    return [task.encode({name: row[name] for name in inputs if name in row}) for row in rows]


if __name__ == "__main__":
    sys.exit(main())

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

from export import bundle_writer, judging, ladder, report, signing, triton_graph
from export.delivery import Delivery
from export.evidence import Candidate, Evidence
from export.floating import make_floats
from export.int8.saturation import saturates
from export.ladder import Bench, GateFailed
from export.options import parser
from export.refusals import check_model
from export.rungs import FP32, Source, rungs_of
from export.torch_graph import DEPRECATED, TORCHSCRIPT
from export.verification import verify
from finetune.checkpoint import MODEL, Checkpoint, open_checkpoint
from serving.errors import DownstreamError
from serving.tasks import Task, find
from serving.tensors import Row, Tensors, check, sizes

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
    if args.sign:
        signing.signer(args.sign)
    args.target = triton_graph.target(args)
    if args.target:
        triton_graph.check_place(args.repository / (args.name + triton_graph.SUFFIX))
    checkpoint = open_checkpoint(args.checkpoint)
    args.rungs, args.left_out = rungs_of(args.to, args.precision, calibrated=bool(checkpoint.calibration()))
    check_model(checkpoint.folder / MODEL, find(checkpoint.task).auto_class)
    if args.to == TORCHSCRIPT:
        print(f"note: {DEPRECATED}", file=sys.stderr)
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
            written = delivery.publish(_search(delivery))
        except (DownstreamError, OSError) as error:
            evidence.failure = str(error)
            if (quarantined := delivery.quarantine()) is not None:
                print(f"quarantine: {quarantined}")
            delivery.write_reports(checkpoint.folder / "export")
            raise error if isinstance(error, GateFailed | OSError) else GateFailed(str(error)) from error
        # Not where it is interrupted: a report of half an export would take the place of a whole one.
        delivery.write_reports(checkpoint.folder / "export")
        return written


def _search(delivery: Delivery) -> Candidate:
    """Try graphs until one is kept. Raises GateFailed, ExportError and TrialError."""
    checkpoint, task, rows = delivery.checkpoint, delivery.task, delivery.rows
    evidence, args = delivery.evidence, delivery.args
    (graph,) = task.graphs.values()
    answers, floats = make_floats(checkpoint, task, delivery.encoded, delivery.folder, args.to)
    evidence.reference = verify("pytorch", task, rows, answers, answers)
    evidence.sweep, evidence.routes = floats.swept, floats.routes
    evidence.served_route, evidence.quantized_route = floats.to_serve.stem, (floats.to_quantize or floats.to_serve).stem
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
    source = Source(
        to=args.to, floats=floats.to_quantize, graph=graph, calibration=_encode(task, checkpoint.calibration()),
        seven_bits=args.portable or saturates(), folder=delivery.folder, model=checkpoint.folder / MODEL,
        auto_class=task.auto_class, example=task.encode(check(task.example, task.inputs)),
    )  # fmt: skip
    return ladder.climb(ladder.Climb(bench, source, floats.promised, first, evidence), args.rungs, best=args.best)


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

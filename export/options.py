"""The command line of ``downstream export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from export import judging, triton_graph
from export.floating import ONNX, SUFFIXES
from export.rungs import FP32, HALF, INT8, LADDER, WEIGHTS


def parser() -> argparse.ArgumentParser:
    """The command line."""
    kinds = "\n".join(f"  {name:23} {rung.what}" for name, rung in LADDER.items())
    command = argparse.ArgumentParser(
        prog="downstream export",
        description="Export a checkpoint, have the graph prove itself on the validation split, and write the bundle.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""examples:
  downstream export runs/tickets --to onnx --precision int8
  downstream export runs/tickets --best
  downstream export runs/tickets --precision fp32 --name tickets-fp32
  downstream export runs/tickets --precision int8-dynamic --accept speed="only its size matters"
  downstream export runs/tickets --tolerance 0.5 --repository /srv/models
  downstream export runs/tickets --to torchscript --precision fp32
  downstream export runs/tickets --triton-graph --triton-instances 4
  downstream export runs/tickets --precision fp32 --triton-graph --triton-accelerator tensorrt

--precision int8 tries these kinds in order and keeps the first that passes every gate; --best tries all and keeps the
one that answers most rows a second. Any of them can be asked for by name:
{kinds}

The graph is compared with PyTorch over shapes that were never traced and over the validation split, by the backend
that will serve it. A bundle that fails is written to --quarantine with its report, where no server takes it from.

exit codes: 0 written, 2 wrong input, 3 no graph could be made or it does not reproduce its golden rows, and by gate:
{judging.explained()}""",
    )
    _add_what(command)
    _add_where(command)
    _add_gates(command)
    triton_graph.add_arguments(command, positive)
    return command


def _add_what(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoint", type=Path, help="folder of a finished training run, as runs/NAME")
    command.add_argument(
        "--to", choices=list(SUFFIXES), default=ONNX,
        help="format of the graph: onnx; torchscript, which torch has deprecated, for servers that want it; pt2, its "
             "successor (default onnx)",
    )  # fmt: skip
    command.add_argument(
        "--precision", choices=[INT8, FP32, *HALF, *LADDER, *WEIGHTS], default=INT8, metavar="KIND",
        help="int8 (the ladder below), one of its kinds by name, fp32, fp16 and bf16 where the device has them, or "
             "int8-weights and int4-weights (default int8)",
    )  # fmt: skip
    command.add_argument("--best", action="store_true", help="try every kind, keep the fastest that passes its gates")
    command.add_argument("--max-batch-size", type=positive, default=32, help="rows of one request (default 32)")
    command.add_argument(
        "--portable", action="store_true",
        help="weights of 7 bits also where this CPU could use 8, so that the bundle runs as fast on CPUs without VNNI",
    )  # fmt: skip


def _add_where(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", help="name of the model in the repository (default: the checkpoint's)")
    command.add_argument("--repository", type=Path, default=Path("model_repository"), help="default model_repository")
    command.add_argument(
        "--quarantine", type=Path, help="folder for bundles that fail (default: quarantine, beside the repository)"
    )
    command.add_argument(
        "--sign", type=Path, metavar="PRIVATE_KEY",
        help="sign the bundle, for `downstream serve --require-signature PUBLIC_KEY`; PRIVATE_KEY is a PEM file: "
             "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem",
    )  # fmt: skip
    command.add_argument("--licence", metavar="SPDX", help="licence of the model (default: that of its base, if known)")


def _add_gates(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--tolerance", type=float, default=1.0, metavar="POINTS",
        help="points of the first metric (hundredths) that the graph may lose against PyTorch (default 1); a class or "
             "a range of lengths may lose three times as much, and more where chance explains it",
    )  # fmt: skip
    command.add_argument(
        "--accept", action="append", default=[], metavar="GATE=REASON",
        help="let a gate pass that fails; the reason stays in the manifest for ever (repeatable)",
    )  # fmt: skip
    command.add_argument(
        "--rows", type=positive, default=5000, help="validation rows to verify on, at most (default 5000)"
    )


def positive(text: str) -> int:
    """A whole number of at least 1. Raises ValueError, which argparse reports."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value

"""The command ``downstream``: one word per stage; each stage is imported only when it is asked for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from types import FrameType

# word: (module with main(argv), extra that installs what it needs, what it does)
STAGES = {
    "finetune": ("finetune.__main__", "finetune", "a recipe and its data -> a checkpoint"),
    "export": ("export.__main__", "export", "a checkpoint -> a verified bundle in model_repository/"),
    "triton-validate": (
        "export.triton_validation",
        "export",
        "a graph model for Triton -> its faults, without a server",
    ),
    "serve": ("serving.__main__", "serve", "a model repository -> REST and gRPC"),
    "predict": ("serving.predict", "serve", "rows of a file -> predictions, offline"),
    "triton-backend": ("serving.triton_install", "serve", "the same repository -> NVIDIA Triton, by our backend"),
    "bundle": ("bundles.__main__", "bundle", "verify, show, diff, pack, push and pull what export wrote"),
    "loadtest": ("loadtest.__main__", "loadtest", "a running server -> latency and throughput report"),
    "demo": ("demo.__main__", "demo", "all of it once, on generated support tickets"),
}

INTERRUPTED = 130

HELP = """usage: downstream STAGE ... | downstream STAGE --help

From a pretrained Transformer and your data to a quantized, verified model that answers REST and gRPC.

{stages}

The whole line:
  downstream finetune finetune/recipes/tickets.yaml
  downstream export runs/tickets --to onnx --precision int8
  downstream serve model_repository/
  downstream predict model_repository/tickets --input rows.jsonl
  downstream loadtest http://127.0.0.1:8000 --rate 50
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(HELP.format(stages="\n".join(f"  {word:15} {text}" for word, (_, _, text) in STAGES.items())))
        return 0 if words else 2
    if words[0] == "--version":
        print(version("downstream"))
        return 0
    if words[0] not in STAGES:
        print(f"downstream: unknown stage {words[0]!r}; the stages are {', '.join(STAGES)}", file=sys.stderr)
        return 2
    module, extra, _ = STAGES[words[0]]
    # Before the stage is imported and can do better: the first process of a container ignores what it does not handle.
    signal.signal(signal.SIGTERM, _terminate)
    if not sys.stderr.isatty():
        # A progress bar in a log file: a line now and then instead of ten a second.
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    _share_cores()
    try:
        return int(import_module(module).main(words[1:]))
    except ModuleNotFoundError as error:  # also of what a stage imports only once it knows that it needs it
        print(
            f"downstream {words[0]}: {error.name} is not installed; install what the stage needs: "
            f"pip install 'downstream[{extra}]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(f"downstream {words[0]}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _share_cores() -> None:
    """Let torch's threads sleep soon when they wait for one another; OpenMP reads this once, when it is loaded.

    By default they spin for milliseconds, which on a core that another process needs makes a training step five to
    ten times slower; on cores of their own they hardly ever wait for longer than this.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())

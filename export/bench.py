"""What an export takes: ``python -m export.bench CHECKPOINT [--best ...]`` runs one and watches its time and memory."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from finetune.checkpoint import MODEL, open_checkpoint

# The promise for an encoder of 22 million parameters with the default kind on two cores.
SECONDS = 90.0
WEIGHTS, BESIDE = 4, 1.5e9
# Seconds between two looks, which themselves take time from what is measured.
EVERY = 0.25


def main(argv: Sequence[str] | None = None) -> int:
    """Run the export; its exit code, or 1 where it took more than is promised."""
    command = argparse.ArgumentParser(prog="python -m export.bench", description=__doc__)
    command.add_argument("checkpoint", type=Path, help="folder of a finished training run")
    args, options = command.parse_known_args(argv)
    weights = sum(
        path.stat().st_size for path in (open_checkpoint(args.checkpoint).folder / MODEL).glob("*.safetensors")
    )
    with tempfile.TemporaryDirectory(prefix="downstream-bench-") as repository:
        words = ["-m", "downstream", "export", str(args.checkpoint), "--repository", repository, *options]
        begun = time.perf_counter()
        with subprocess.Popen([sys.executable, *words]) as process:  # noqa: S603
            peak = watch(psutil.Process(process.pid), process)
        seconds = time.perf_counter() - begun
    allowed = WEIGHTS * weights + BESIDE
    print(f"\nexport:  {seconds:.0f} s (promised for 22 M parameters on 2 cores: {SECONDS:.0f})")
    print(f"memory:  {peak / 1e6:,.0f} MB at most, of all its processes (promised: 4 x weights + 1.5 GB, "
          f"here {allowed / 1e6:,.0f})")  # fmt: skip
    return process.returncode or int(seconds > SECONDS or peak > allowed)


def watch(root: psutil.Process, process: subprocess.Popen[bytes]) -> int:
    """The most bytes that a process and its children had at one time; pages they share count once (PSS)."""
    peak = 0
    while process.poll() is None:
        found = 0
        for one in [root, *_children(root)]:
            # It may end between being listed and being asked.
            with suppress(psutil.Error):
                found += one.memory_full_info().pss
        peak = max(peak, found)
        time.sleep(EVERY)
    return peak


def _children(root: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return list(root.children(recursive=True))
    return []


if __name__ == "__main__":
    sys.exit(main())

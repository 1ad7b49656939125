"""``downstream triton-backend``: put the backend where a Triton Inference Server looks for it."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from serving.errors import DownstreamError, InvalidInput, fault

NAME = "downstream"
PACKAGE = Path(__file__).parent
# What needs a web framework or the protobufs, which Triton's interpreter does not have and the backend does not use.
LEFT_OUT = ("__pycache__", "gateway", "__main__.py", "predict.py", "triton_install.py")
# What the interpreter of the model must have.
REQUIREMENTS = ("numpy", "onnxruntime", "tokenizers")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="downstream triton-backend",
        description="Install the backend 'downstream' into NVIDIA Triton Inference Server: the same model repository "
        "that the gateway serves is then served by Triton too.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"""examples:
  downstream triton-backend install /opt/tritonserver/backends          inside Triton's container
  downstream triton-backend install triton-backends                     a folder to mount into it
  tritonserver --model-repository=model_repository --backend-directory=triton-backends

The backend directory must hold Triton's own backend 'python' too, unless only backends/downstream is mounted into a
directory that has it. The interpreter that Triton starts (the first python3 on PATH, 3.11 or newer) needs
{", ".join(REQUIREMENTS)}; Triton up to 24.10 needs numpy below 2. See docs/triton.md.""",
    )
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    install = actions.add_parser("install", help="write DIR/downstream, replacing what is there")
    install.add_argument("folder", type=Path, metavar="DIR", help="a backend directory of Triton")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    args = parser().parse_args(argv)
    try:
        target = install(args.folder)
    except (DownstreamError, OSError) as error:
        print(f"downstream triton-backend: {error}", file=sys.stderr)
        return 2
    print(f"backend:    {target}")
    print(f"needs:      {' '.join(REQUIREMENTS)} in the interpreter that Triton starts (numpy<2 up to Triton 24.10)")
    if not (args.folder / "python").is_dir():
        print(f"missing:    {args.folder / 'python'}, Triton's own backend; mount {target} beside it, or copy it here")
    print(f"next:       tritonserver --model-repository=model_repository --backend-directory={args.folder}")
    return 0


def install(folder: Path) -> Path:
    """Write ``folder/downstream`` in one step: ``model.py`` and the package it runs; the path of it.

    Raises InvalidInput where something else is in its place.
    """
    target = folder / NAME
    if target.exists() and not (target / "model.py").is_file():
        raise InvalidInput(fault("DIR", f"holds a {NAME} that is no backend", str(target), "move it away"))
    staging, old = folder / f".{NAME}.writing", folder / f".{NAME}.old"
    for leftover in (staging, old):
        shutil.rmtree(leftover, ignore_errors=True)
    staging.mkdir(parents=True)
    shutil.copyfile(PACKAGE / "triton_backend.py", staging / "model.py")
    shutil.copytree(PACKAGE, staging / PACKAGE.name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    if target.exists():
        target.rename(old)
    staging.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


if __name__ == "__main__":
    sys.exit(main())

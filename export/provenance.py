"""Where a bundle comes from: base model, checkpoint, data, recipe, code, packages, and the host that made it."""

from __future__ import annotations

import hashlib
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import onnx
import yaml

from export.floating import ONNX
from export.graph_version import opset
from finetune.checkpoint import MANIFEST, RECIPE, Checkpoint
from finetune.origin import UNKNOWN, git_commit
from serving import processor
from serving.settings import read_available_cores

PACKAGES = ("downstream", "torch", "transformers", "tokenizers", "onnx", "onnxruntime", "onnxscript", "numpy")


def source(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the bundle was made of; ``unknown`` where an older checkpoint does not say."""
    manifest = checkpoint.manifest
    return {
        "base_model": manifest["base_model"],
        "base_revision": manifest.get("base_revision", UNKNOWN),
        "checkpoint": "sha256:" + hashlib.sha256((checkpoint.folder / MANIFEST).read_bytes()).hexdigest(),
        "weights": {n: d for n, d in manifest["files"].items() if n.endswith(".safetensors")},
        "data_digest": manifest["data_digest"],
        "seed": manifest["seed"],
        "recipe": yaml.safe_load((checkpoint.folder / RECIPE).read_text("utf-8")),
        "trained_with": manifest["versions"],
        "exported_with": _versions(),
        "git_commit": manifest.get("git_commit", UNKNOWN),
        "export_git_commit": git_commit(Path.cwd()),
        "exported": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def graph(path: Path, to: str) -> dict[str, Any]:
    """The format of a graph and, of an ONNX graph, its versions."""
    if to != ONNX:
        return {"format": to}
    model = onnx.load(path, load_external_data=False)
    return {"format": to, "opset": opset(model), "ir_version": model.ir_version}


def licence(checkpoint: Checkpoint, given: str | None) -> str:
    """The licence of the model: as given, or that of its base."""
    return given or str(checkpoint.manifest.get("licence", UNKNOWN))


def host() -> dict[str, Any]:
    """The machine that the figures were measured on."""
    return {
        **processor.read().to_json(),
        "cores": read_available_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

"""Where a checkpoint comes from: which state of which base, under which licence, trained by which state of the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

from serving.bundle import digest_folder

UNKNOWN = "unknown"
COMMIT = re.compile(r"[0-9a-f]{40}")
CARD = "README.md"


def of_base(folder: Path | None) -> dict[str, str]:
    """``base_revision`` and ``licence`` of a base in a folder; None is a model from scratch, which has neither.

    The revision is the commit of a hub's snapshot, or else the digest of the weights. The licence is that of the card.
    """
    if folder is None:
        return {"base_revision": "scratch", "licence": UNKNOWN}
    snapshot = folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name)
    weights = {name: digest for name, digest in digest_folder(folder).items() if name.endswith(".safetensors")}
    return {"base_revision": folder.name if snapshot else ", ".join(weights.values()), "licence": licence(folder)}


def licence(folder: Path) -> str:
    """The licence that the model card of a folder states. Source: huggingface.co/docs/hub/model-cards."""
    card = folder / CARD
    if not card.is_file():
        return UNKNOWN
    opening, _, rest = card.read_text("utf-8", errors="replace").partition("---\n")
    front, closed, _ = rest.partition("\n---")
    if opening.strip() or not closed:
        return UNKNOWN
    try:
        stated = yaml.safe_load(front)
    except yaml.YAMLError:
        return UNKNOWN
    return str(stated.get("license", UNKNOWN)) if isinstance(stated, dict) else UNKNOWN


def git_commit(folder: Path) -> str:
    """The commit that is checked out in a folder, with ``-dirty`` where files differ from it; ``unknown`` outside."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN

"""What runs cost, kept from one start of the server to the next: a file for each version, machine and set-up."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serving.cost import CostModel

log = logging.getLogger(__name__)

# Part of the name of a file: what another version of the code wrote otherwise is not read.
FORMAT = 1
AUTO = "auto"


def folder(cache_dir: str, environ: Mapping[str, str]) -> Path | None:
    """The folder of the setting ``cache_dir``: as given, that of the user's caches for AUTO, None for an empty one."""
    if cache_dir != AUTO:
        return Path(cache_dir).expanduser() if cache_dir else None
    try:
        # A relative one is to be ignored, says the XDG base directory specification.
        given = Path(environ.get("XDG_CACHE_HOME", ""))
        return (given if given.is_absolute() else Path.home() / ".cache") / "downstream"
    except RuntimeError:  # a user without a home
        return None


def path(cache: Path, **conditions: Any) -> Path:
    """The file for costs under these conditions (digests of files, processor, runners, ...), as JSON has them."""
    named = json.dumps({"format": FORMAT, **conditions}, sort_keys=True)
    return cache / "costs" / f"{hashlib.sha256(named.encode()).hexdigest()[:32]}.json"


def read(file: Path) -> CostModel | None:
    """The costs that were kept; None, with a line in the log unless there is no such file, where they are no good."""
    try:
        found = json.loads(file.read_text("utf-8"))
        model = CostModel(*(float(found[term]) for term in ("base", "token", "square")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s: cannot be read (%s); costs are measured anew", file, error)
        return None
    if not model.is_sound:
        log.warning("%s: holds %s, which no run costs; costs are measured anew", file, model)
        return None
    return model


def write(file: Path, model: CostModel) -> None:
    """Keep costs, whole or not at all; where that cannot be done there is a line in the log."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: several processes may serve the same model.
        descriptor, sibling = tempfile.mkstemp(dir=file.parent, prefix=".")
        try:
            with open(descriptor, "w", encoding="utf-8") as out:
                json.dump(asdict(model), out)
            os.replace(sibling, file)
        except BaseException:
            os.unlink(sibling)
            raise
    except OSError as error:
        log.warning("%s: cannot be written (%s); the next start measures again", file, error)

"""Chapter: where the bundle comes from, as its manifest says."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from export.evidence import Evidence
from reporting.page import Block, code, folded, table

HEADING = "Where it comes from"


def blocks(evidence: Evidence) -> list[Block]:
    """Base model, data, commit and host as a table; recipe, packages and digests of the weights to be opened."""
    manifest = evidence.bundle
    if manifest is None:
        return []
    told = {"licence": manifest.licence, **manifest.source, **{f"host: {k}": v for k, v in manifest.host.items()}}
    plain = {name: value for name, value in told.items() if value and not isinstance(value, Mapping)}
    deep = {name: value for name, value in told.items() if value and isinstance(value, Mapping)}
    rows = [[_words(name), ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]
            for name, value in plain.items()]  # fmt: skip
    listings = [
        folded(_words(name), code(yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True)))
        for name, value in deep.items()
    ]
    return [folded("base model, data, code and host", table(["", ""], rows)), *listings] if rows or listings else []


def _words(name: str) -> str:
    return name.replace("_", " ")

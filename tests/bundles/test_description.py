"""show: everything a manifest tells, for people and for machines."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bundles.description import describe, show
from serving.bundle import MANIFEST, write_json
from serving.errors import BundleError
from tests.serving.bundles import LABELS, manifest_of, write_bundle

QUALITY = {
    "pytorch": {"accuracy": 0.9, "bytes": 0, "p50_ms": None},
    "fp32": {"accuracy": 0.9, "bytes": 23_537_901, "p50_ms": 4.5, "verdict": "kept", "in_batches": {"flips": 0}},
}


def printed(told: dict[str, Any]) -> str:
    file = io.StringIO()
    show(Console(file=file, width=200, markup=False, highlight=False), told)
    return file.getvalue()


def test_what_a_version_is(version: Path) -> None:
    manifest = manifest_of(version)
    write_json(
        version / MANIFEST, {**manifest, "quality": QUALITY, "source": {"base_model": "m", "versions": {"a": 1}}}
    )
    told = describe(version)
    assert (told["name"], told["version"], told["axes"]) == ("intent", 1, {"labels": list(LABELS)})
    assert [field["name"] for field in told["inputs"]] == ["text", "text_pair"]
    assert told["bytes"]["all"] == sum(count for part, count in told["bytes"].items() if part != "all")
    text = printed(told)
    for line in (
        r"intent/1: text-classification, fp32, stub",
        r"base_model +m",
        r"versions\.a +1",
        r"pytorch +0\.9 +0 B +-",
        r"fp32 \* +0\.9 +23\.5 MB +4\.5 +kept",
        r"text_pair +BYTES +yes",
        r"logits +FP32\[labels\]",
        r"labels +cancel, refund, thanks",
        r"logits 0\.0001",
    ):
        assert re.search(line, text), line
    for absent in ("gates", "licence", "None"):
        assert absent not in text


def test_what_newer_manifests_tell_is_shown(version: Path) -> None:
    told = describe(version) | {
        "licence": "apache-2.0",
        "needs": ["avx512_vnni"],
        "host": {"cpu": "x", "cores": 2},
        "gates": [
            {"gate": "parity", "passed": True, "message": "held", "figures": {"flips": 0}, "accepted": None},
            {"gate": "speed", "passed": False, "message": "slower", "figures": {}, "accepted": "Ada: we need INT8"},
        ],
    }
    text = printed(told)
    for line in (
        r"licence +apache-2\.0",
        r"host\.cores +2",
        r"needs +\[avx512_vnni\]",
        r"parity +yes +held +flips 0",
        r"speed +accepted +slower +Ada: we need INT8",
    ):
        assert re.search(line, text), line


def test_a_strangers_manifest_cannot_write_to_the_terminal(version: Path) -> None:
    told = describe(version) | {"source": {"base_model": "\x1b]0;evil\x07 [bold]x[/bold]\r"}}
    text = printed(told)
    assert "\x1b" not in text
    assert "\r" not in text
    assert "[bold]x[/bold]" in text


def test_a_damaged_version_is_not_described(repository: Path) -> None:
    with pytest.raises(BundleError, match=r"golden\.jsonl was changed"):
        describe(write_bundle(repository, damaged="golden.jsonl"))

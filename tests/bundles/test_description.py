"""show: everything a manifest tells, for people and for machines."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bundles.comparison import compare
from bundles.description import describe, show
from serving.errors import BundleError
from tests.bundles.gates import failed_gate, passed_gate
from tests.serving.bundles import LABELS, reseal, write_bundle

# As export writes it.
FIGURES = {"accuracy": 0.91284, "interval": [0.89336, 0.93005], "agreement": 0.99, "largest_difference": 0.01}
MEASURED = {"bytes": 23_537_901, "p50_ms": 4.512, "p99_ms": 6.1, "rows_per_second": 231.4, "memory": 158_000_000}
QUALITY = {
    "pytorch": FIGURES,
    "int8-static-percentile": {**FIGURES, **MEASURED, "speedup": [1.72, 1.7, 1.75], "verdict": "rejected: too bad"},
    "fp32": {**FIGURES, **MEASURED, "speedup": None, "in_batches": {"flips": 0}, "operators": {}, "verdict": "kept"},
}
SOURCE = {
    "base_model": "m",
    "seed": 13,
    "recipe": {"seed": 13, "model": {"base": None, "scratch": {"layers": 1}}, "data": {"hub": None, "columns": {}}},
    "trained_with": {"torch": "2.13", "numpy": "2.4"},
}


def printed(told: dict[str, Any], width: int = 120) -> str:
    file = io.StringIO()
    show(Console(file=file, width=width, markup=False, highlight=False), told)
    return file.getvalue()


def test_the_table_of_candidates_keeps_its_lines_at_a_hundred_columns(version: Path) -> None:
    reseal(version, quality=QUALITY)
    lines = printed(describe(version), 100).splitlines()
    for name, last in (("pytorch", "-"), ("fp32 *", "-"), ("int8-static-percentile", "1.72x")):
        assert any(line.startswith(f" {name} ") and line.rstrip().endswith(last) for line in lines), name
    assert any(re.search(r"candidate +accuracy +interval +size +p50/p99 ms +rows/s +memory +speedup", line)
               for line in lines)  # fmt: skip


def test_what_a_version_is(version: Path) -> None:
    reseal(version, quality=QUALITY, source=SOURCE, host={"processor": "x", "cores": 2})
    told = describe(version)
    assert (told["name"], told["version"], told["axes"]) == ("intent", 1, {"labels": list(LABELS)})
    assert [field["name"] for field in told["inputs"]] == ["text", "text_pair"]
    assert told["bytes"]["all"] == sum(count for part, count in told["bytes"].items() if part != "all")
    text = printed(told)
    for line in (
        r"intent/1: text-classification, fp32, stub",
        r"base_model +m",
        r"trained_with +torch 2\.13, numpy 2\.4",
        r"measured on +processor x, cores 2",
        r"seed +13 *\n",
        r"model +scratch\.layers 1 *\n",
        r"pytorch +0\.9128 +0\.893-0\.930 +- +",
        r"fp32 \* +0\.9128 +0\.893-0\.930 +23\.5 MB +4\.51/6\.10 +231 +158\.0 MB +- ",
        r"int8-static-percentile +0\.9128 .* 1\.72x",
        r"int8-static-percentile +rejected: too bad",
        r"text_pair +BYTES +yes",
        r"logits +FP32\[labels\]",
        r"labels +cancel, refund, thanks",
        r"logits 0\.0001",
    ):
        assert re.search(line, text), line
    for absent in ("gates", "None", "hub", "columns", "in quarantine"):
        assert absent not in text


def test_gates_say_what_they_found_and_why_one_was_accepted(version: Path) -> None:
    gates = [passed_gate("parity"), failed_gate("speed", "Ada: we need INT8"), failed_gate("graph")]
    reseal(version, licence="apache-2.0", needs=["vnni"], gates=gates)
    told = describe(version)
    assert told["gates"] == gates
    text = printed(told)
    for line in (
        r"licence +apache-2\.0",
        r"needs of a processor +vnni",
        r"^intent/1: .*; in quarantine\n",
        r" ok +parity +held *\n",
        r" accepted +speed +too slow\. Accepted: Ada: we need INT8",
        r" FAILED +graph +too slow *\n",
    ):
        assert re.search(line, text), line


def test_a_strangers_manifest_cannot_write_to_the_terminal(version: Path) -> None:
    told = describe(version) | {"source": {"base_model": "\x1b]0;evil\x07 [bold]x[/bold]\r"}}
    text = printed(told)
    assert "\x1b" not in text
    assert "\r" not in text
    assert "[bold]x[/bold]" in text


def test_figures_of_no_known_kind_are_left_out(version: Path) -> None:
    odd = {"accuracy": "x", "interval": 3, "speedup": ["a"], "bytes": "y", "p50_ms": None}
    reseal(version, quality={"pytorch": 3, "fp32": odd})
    assert re.search(r"fp32 \*( +-)* *\n", printed(describe(version)))
    assert compare(version, version).differences == []


def test_a_damaged_version_is_not_described(repository: Path) -> None:
    with pytest.raises(BundleError, match=r"golden\.jsonl was changed"):
        describe(write_bundle(repository, damaged="golden.jsonl"))

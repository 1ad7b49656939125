"""What a reader of an export report is told: every graph, every gate, why, and what was written."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from export import report
from export.evidence import Evidence
from export.judging import GATES
from export.verification import Answered
from tests.export import evidence as made
from tests.reporting.test_page import Document


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return made.searched(tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def html(evidence: Evidence) -> str:
    return report.page("toy <i>", evidence)


@pytest.fixture(scope="module")
def told(html: str) -> str:
    """The words of the page, as a browser shows them."""
    return words(html)


def words(html: str) -> str:
    """The text of a page on one line, its cells apart as they are for whoever looks at them."""
    return " ".join(Document(html.replace("</t", " </t")).text.split())


def test_one_line_for_the_terminal(evidence: Evidence) -> None:
    assert isinstance(evidence.reference, Answered)
    line = report.line(evidence.candidates[2], evidence.reference)
    assert line.startswith("int8-smooth: accuracy 0.9055 [0.8955, 0.9155] (PyTorch 0.9102), agreement 99.25 %, 0.0 MB")
    assert "p50 4.611 ms, p99 9.683 ms, 701 rows/s, 181 MB of memory" in line


def test_the_page_begins_with_what_was_written_and_what_was_accepted(told: str) -> None:
    assert (
        "Accepted int8-smooth passes its gates but for saturation, which a person accepted, and was written to the "
        f"repository as toy, version 7 accepted because: saturation: {made.REASON}"
    ) in told


def test_every_gate_is_told_with_its_question_its_code_and_its_sentence(told: str) -> None:
    for gate in GATES:
        word = "Accepted" if gate.NAME == "saturation" else "Passed"
        assert f"{word} {gate.NAME} what {gate.NAME} found of int8-smooth" in told
        assert f"Asks: {gate.QUESTION} Exit code {gate.CODE}." in told


def test_every_graph_is_told_with_its_figures_and_why_it_was_kept_or_not(evidence: Evidence, told: str) -> None:
    for one in evidence.candidates:
        low, high = one.answered.interval
        assert f"{one.name} {one.answered.value:.4f} [{low:.4f}, {high:.4f}] 99.25 % 0.25 0.01" in told
    assert "int8-smooth 0.0 4.61 9.68 701 181 1.82 [1.75, 1.90] 11.2" in told
    assert "int8-static ✓ ✗ failed ✓ ✓ ✓ ✓ ✓" in told
    assert "int8-smooth ✓ ✓ ✓ ✓ accepted ✓ ✓" in told
    assert "int8-static rejected what accuracy found of int8-static" in told
    assert f"int8-smooth kept saturation is accepted: {made.REASON}" in told
    assert "int8-entropy could not be made: no rows" in told


def test_the_trade_off_names_every_graph_and_pytorch(evidence: Evidence, html: str) -> None:
    drawn = html[html.index("rows a second, all cores busy") :]
    for one in evidence.candidates:
        assert f">{one.name}, 0.0 MB</text>" in drawn
    assert ">PyTorch 0.9102</text>" in drawn


def test_slices_classes_and_probabilities_are_told_before_and_after(told: str) -> None:
    assert "label 'refund' 77 9 2 +9.09 0.033" in told
    assert "<b>bad</b>" in told
    assert "PyTorch 0.0398 0.0179 1.402" in told
    assert "int8-smooth 0.0412 0.0187 1.431" in told


def test_batches_and_overflow_are_told_of_every_graph(told: str) -> None:
    assert "int8-dynamic 32 20 16 (2.5 %) 37 % row by row" in told
    assert "int8-smooth 32 20 0 (0 %) 0 % in batches" in told
    assert "int8-static 9,437,184 12,431 0.13 % vnni" in told


def test_drift_is_told_by_layer_in_the_order_of_depth(html: str) -> None:
    lines = ["layer 2", "attention.self.query", "layer 10", "output.dense", "head", "classifier"]
    places = [html.index(f">{line}</text>") for line in lines]
    assert places == sorted(places)
    assert "Largest of its own: layer 10 output.dense, 4.5 %." in html


def test_products_of_a_layer_stand_in_the_order_in_which_they_run(tmp_path: Path) -> None:
    evidence = made.searched(tmp_path)
    names = ["attention/self/query", "attention/self/value", "attention/output/dense", "intermediate/dense"]
    layers = [f"/model/bert/encoder/layer.0/{name}/MatMul" for name in [*names, "output/dense"]]
    traced = [replace(evidence.drift[0], name=layer, layer=layer) for layer in reversed(layers)]
    page = report.page("toy", replace(evidence, drift=traced))
    places = [page.index(f">{name.replace('/', '.')}</text>") for name in [*names, "output/dense"]]
    assert places == sorted(places)


def test_the_worst_products_are_shown_of_very_many(tmp_path: Path) -> None:
    evidence = made.searched(tmp_path)
    many = [replace(evidence.drift[0], layer=f"a.layer.{n}.dense", own=n / 1000) for n in range(100)]
    page = report.page("toy", replace(evidence, drift=many))
    assert "The 48 of 100 products with the largest errors of their own." in page
    assert ">layer 99</text>" in page
    assert ">layer 1</text>" not in page
    assert len(report.as_json(replace(evidence, drift=many))["drift"]) == 100


def test_the_graph_is_told_by_route_operators_parts_and_shapes(html: str, told: str) -> None:
    assert "native 9.61 1.00 20, 10 is quantized" in told
    assert "traced 9.18 1.05 18, 8 serves in fp32" in told
    assert "optimized — — — no attention to fuse" in told
    assert "matrix products in integers 0 38" in told
    assert ">embeddings</text>" in html
    assert "2 rows 4.0e-07 3.0e-07" in told


def test_what_it_was_made_of_can_be_opened(evidence: Evidence, html: str, told: str) -> None:
    assert "<details>" in html
    assert evidence.bundle is not None
    for fragment in ("org/base-model", "d5841f6f", "epochs: 3", "apache-2.0", evidence.bundle.digest):
        assert fragment in told


def test_the_page_is_complete_by_itself_and_small(html: str) -> None:
    document = Document(html)
    assert not {"script", "link", "img", "iframe", "i"} & set(document.tags)
    for name, value in document.attributes:
        assert name not in {"href", "src"} or str(value).startswith("#")
    assert not re.search(r"url\((?!#)|@import", html)
    assert len(html.encode()) < 500_000


def test_the_data_says_what_the_page_says(evidence: Evidence, told: str) -> None:
    data = json.loads(json.dumps(report.as_json(evidence), allow_nan=False))
    assert data["verdict"] in told
    assert data["kept"] == "int8-smooth"
    assert data["bundle"]["digest"] in told
    assert list(data["candidates"]) == [one.name for one in evidence.candidates]
    for name, one in data["candidates"].items():
        assert f"{name} {one['accuracy']:.4f}" in told
        assert {gate["gate"] for gate in one["gates"]} == set(made.GATES)
        assert one["verdict"].split("; ")[-1].removeprefix("rejected: ") in told
    accepted = {gate["gate"]: gate["accepted"] for gate in data["candidates"]["int8-smooth"]["gates"]}
    assert accepted["saturation"] == made.REASON
    assert data["parts"]["fp32"]["embeddings"] == 16000
    assert data["parts"]["int8-smooth"]["embeddings"] == 4000
    assert data["drift"][0] == {
        "name": "node_MatMul_12", "layer": "bert.encoder.layer.10.output.dense", "own": 0.0451, "accumulated": 0.0621,
    }  # fmt: skip
    assert [one["name"] for one in data["routes"]] == ["native", "traced", "optimized"]
    assert data["sweep"][1] == {"rows": 2, "length": 3, "difference": 4e-7}


def test_a_graph_is_outdone_by_a_better_one_that_passes(evidence: Evidence) -> None:
    outdone = {name: one["outdone"] for name, one in report.as_json(evidence)["candidates"].items()}
    # int8-static is the fastest, fp32 has the best metric; what int8-dynamic gives, int8-smooth gives faster.
    assert outdone == {"fp32": False, "int8-static": False, "int8-smooth": False, "int8-dynamic": True}


def test_a_failed_search_says_what_came_nearest_and_why_it_is_not_served(tmp_path: Path) -> None:
    evidence = made.failed(tmp_path)
    told = words(report.page("toy", evidence))
    assert (
        "Failed int8-static came nearest and is in quarantine as toy, version 7, not in the repository: gate failed: "
        "accuracy: what accuracy found of int8-static"
    ) in told
    assert "Failed accuracy what accuracy found of int8-static" in told
    assert report.as_json(evidence)["kept"] is None
    assert report.as_json(evidence)["failure"] == evidence.failure


def test_a_bundle_that_does_not_reproduce_its_rows_is_not_told_as_written(evidence: Evidence) -> None:
    told = report.page("toy", replace(evidence, failure="golden row 3 is answered otherwise"))
    assert "nothing was written: golden row 3 is answered otherwise" in told


@pytest.mark.parametrize("reference", [None, made.answered("pytorch", 0.91)], ids=["at once", "after PyTorch answered"])
def test_a_failure_before_any_graph_is_told_with_its_reason(reference: Answered | None) -> None:
    evidence = Evidence(reference=reference, failure="the exporter failed: <TypeError>")
    told = words(report.page("toy", evidence))
    assert "Failed no graph could be measured, nothing was written: the exporter failed: <TypeError>" in told
    for gate in GATES:
        assert f"{gate.NAME} {gate.QUESTION} {gate.CODE}" in told
    assert json.loads(json.dumps(report.as_json(evidence), allow_nan=False))["candidates"] == {}


def test_figures_that_are_no_numbers_spoil_neither_page_nor_data(tmp_path: Path) -> None:
    evidence = made.failed(tmp_path)
    broken = replace(evidence.candidates[1], answered=made.answered("int8-static", float("nan")))
    evidence.candidates[1] = broken
    assert "int8-static" in report.page("toy", evidence)
    data = json.dumps(report.as_json(evidence), allow_nan=False)
    assert json.loads(data)["candidates"]["int8-static"]["accuracy"] is None


def test_a_task_without_classes_has_no_empty_chapters(tmp_path: Path) -> None:
    evidence = made.searched(tmp_path)
    plain = {"accuracy": 0.9}
    bare = [replace(one, answered=replace(one.answered, scores=plain), verdicts=()) for one in evidence.candidates[:1]]
    page = report.page("toy", Evidence(reference=made.answered("pytorch", 0.9), candidates=bare))
    for heading in ("Accuracy by slice", "Drift by layer", "Shapes never traced"):
        assert heading not in page

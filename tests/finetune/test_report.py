"""The figures and the page of a finished run."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.finetune import toy
from tests.finetune.conftest import AWKWARD


@pytest.fixture(scope="module")
def page(checkpoint: Path) -> str:
    return (checkpoint / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def metrics(checkpoint: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((checkpoint / "metrics.json").read_text("utf-8"))
    return value


class Elements(HTMLParser):
    """Every start tag with its attributes, and all text outside of styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_figures_are_all_there_and_add_up(metrics: dict[str, Any]) -> None:
    scores = metrics["validation"]
    assert {"accuracy", "macro_f1", "mcc", "per_class", "confusion_matrix"} <= scores.keys()
    matrix = scores["confusion_matrix"]
    assert matrix["labels"] == [toy.BAD, toy.GOOD]
    rows = 32 + len(AWKWARD)
    assert sum(map(sum, matrix["counts"])) == rows
    assert scores["accuracy"] == pytest.approx(sum(matrix["counts"][i][i] for i in range(2)) / rows)
    assert sum(figures["support"] for figures in scores["per_class"].values()) == rows


def test_the_story_of_the_training_is_there(metrics: dict[str, Any]) -> None:
    training = metrics["training"]
    assert training["steps"] == 24
    assert training["precision"] == "fp32"
    assert [entry["step"] for entry in training["validation"]] == [8, 16, 24]
    assert all({"loss", "learning_rate", "grad_norm"} <= entry.keys() for entry in training["train"])


def test_there_is_no_test_score_without_a_test_split(metrics: dict[str, Any]) -> None:
    assert metrics.keys() == {"validation", "training"}


def test_the_page_needs_nothing_from_anywhere(page: str) -> None:
    elements = Elements(page)
    assert len(elements.tags) > 50
    for tag, attributes in elements.tags:
        assert tag not in ("script", "iframe", "object", "link", "base"), tag
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), f"{tag} {name}"
    assert not re.search(r"@import|url\(\s*['\"]?(?!#|data:)", page)


def test_texts_and_labels_are_shown_and_never_taken_as_markup(page: str) -> None:
    elements = Elements(page)
    for row in AWKWARD[:2]:
        assert row["text"] in elements.text
        assert row["text"] not in page
    assert toy.BAD in elements.text
    assert toy.BAD not in page
    assert "<i>" not in page


def test_the_page_shows_the_key_figure_and_the_recipe(page: str, metrics: dict[str, Any]) -> None:
    text = Elements(page).text
    assert f"{metrics['validation']['accuracy']:.4g}" in text
    assert "learning_rate: 0.005" in text
    assert "chosen on this same split" in text

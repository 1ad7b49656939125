"""A temperature makes probabilities mean what they say, or is left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.temperature import calibrate, fit
from serving.calibration import TEMPERATURE, calibration_error, read_temperature
from serving.errors import BundleError
from serving.scoring import softmax
from serving.tasks.text_classification import TextClassification
from serving.tensors import Array, Row
from tests.export import cases
from tests.serving.bundles import LABELS, write_assets


def drawn(temperature: float, rows: int = 4000) -> tuple[Array, Array]:
    """Logits that are ``temperature`` times too large for labels drawn from what they ought to say."""
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 1.5, (rows, 3))
    labels = np.array([generator.choice(3, p=own / own.sum()) for own in softmax(logits).astype(np.float64)])
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    assert fit(*drawn(temperature)) == pytest.approx(temperature, rel=0.06)


def test_a_temperature_helps_on_rows_it_never_saw(tmp_path: Path) -> None:
    own = cases.task(tmp_path)
    logits, labels = drawn(3.0)
    rows: list[Row] = [{"text": "a", "label": LABELS[label]} for label in labels]
    found = calibrate(own, rows, [{"logits": row} for row in logits])
    assert found is not None
    assert found.temperature == pytest.approx(3, rel=0.06)
    assert found.error < 0.03 < 0.15 < found.raw
    assert calibrate(own, rows[:99], [{"logits": row} for row in logits[:99]]) is None


def test_what_a_temperature_cannot_mend_is_left_as_it_is(tmp_path: Path) -> None:
    rows: list[Row] = [{"text": "a", "label": LABELS[index % 3]} for index in range(300)]
    found = calibrate(cases.task(tmp_path), rows, [{"logits": np.zeros(3)}] * 300)
    assert found is not None
    assert (found.temperature, found.error) == (1.0, found.raw)


def test_served_probabilities_are_tempered_and_logits_and_labels_are_not(tmp_path: Path) -> None:
    assets = write_assets(tmp_path / "assets")
    outputs = {"logits": np.array([0.5, 2.5, -1.0], np.float32)}
    before = TextClassification.open(assets).decode({}, outputs)
    (assets / TEMPERATURE).write_text('{"temperature": 4}')
    after = TextClassification.open(assets).decode({}, outputs)
    assert after["label"] == before["label"]
    assert after["logits"].tolist() == before["logits"].tolist()
    assert after["score"] == after["probabilities"].max() < before["score"]
    assert after["probabilities"] == pytest.approx(softmax(outputs["logits"] / 4))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"temperature": 0}', '{"temperature": -1}', '{"temperature": NaN}'])
def test_a_temperature_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / TEMPERATURE).write_text(text)
    with pytest.raises(BundleError, match="temperature"):
        read_temperature(tmp_path)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=200))
def test_the_calibration_error_is_a_share(pairs: list[tuple[float, bool]]) -> None:
    confidences, right = (np.array(side) for side in zip(*pairs, strict=True))
    assert 0 <= calibration_error(confidences, right.astype(bool)) <= 1


def test_the_calibration_error_of_what_is_sure_and_half_right() -> None:
    assert calibration_error(np.ones(10), np.array([True, False] * 5)) == pytest.approx(0.5)
    assert calibration_error(np.full(10, 0.5), np.array([True, False] * 5)) == pytest.approx(0.0)

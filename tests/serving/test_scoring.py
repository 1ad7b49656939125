"""Metrics against scikit-learn, and intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.scoring import bootstrap, classification, confusion, softmax

LABELS = ("a", "b", "c", "d")
answers = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # scikit-learn's, of undefined figures
@settings(deadline=None)
@given(answers)
def test_figures_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    predicted, expected = zip(*pairs, strict=True)
    found = classification(predicted, expected, LABELS)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(expected, predicted))
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(expected, predicted, average="macro"))
    assert found["mcc"] == pytest.approx(sklearn.matthews_corrcoef(expected, predicted))
    assert found["confusion_matrix"]["counts"] == sklearn.confusion_matrix(expected, predicted, labels=LABELS).tolist()
    precision, recall, f1, support = sklearn.precision_recall_fscore_support(
        expected, predicted, labels=LABELS, zero_division=0
    )
    for index, label in enumerate(LABELS):
        assert found["per_class"][label] == pytest.approx(
            {"precision": precision[index], "recall": recall[index], "f1": f1[index], "support": support[index]}
        )


def test_rows_of_the_confusion_matrix_are_the_expected_labels() -> None:
    assert confusion(["b", "b", "a"], ["a", "b", "a"], ["a", "b"]).tolist() == [[1, 1], [0, 1]]


def test_no_rows_score_zero_instead_of_failing() -> None:
    found = classification([], [], LABELS)
    assert (found["accuracy"], found["macro_f1"], found["mcc"]) == (0, 0, 0)


@settings(deadline=None)
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.floats(-1e4, 1e4, width=32))
)
def test_softmax_gives_probabilities_in_the_order_of_the_logits(logits: np.ndarray) -> None:
    found = softmax(logits)
    assert found.dtype == np.float32
    assert found.shape == logits.shape
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)
    assert (found.max(axis=-1) == np.take_along_axis(found, logits.argmax(-1)[:, None], -1)[:, 0]).all()


def test_softmax_of_known_logits() -> None:
    np.testing.assert_allclose(softmax(np.log(np.array([1.0, 2.0, 5.0]))), [0.125, 0.25, 0.625], rtol=1e-6)


def test_bootstrap_interval_covers_the_true_accuracy_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(7)
    covered = 0
    for trial in range(100):
        hits = generator.random(150) < 0.8
        low, high = bootstrap(lambda rows, hits=hits: float(hits[rows].mean()), 150, resamples=200, seed=trial)
        covered += low <= 0.8 <= high
    assert 85 <= covered <= 100


def test_bootstrap_is_reproducible_and_wider_when_more_confidence_is_asked_for() -> None:
    hits = np.arange(60) % 3 == 0

    def interval(confidence: float) -> tuple[float, float]:
        return bootstrap(lambda rows: float(hits[rows].mean()), 60, confidence=confidence)

    assert interval(0.95) == interval(0.95)
    assert interval(0.99)[0] < interval(0.8)[0] < hits.mean() < interval(0.8)[1] < interval(0.99)[1]

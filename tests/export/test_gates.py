"""Each gate fails for what it is there for, says so in a sentence, and has an exit code of its own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from export import judging
from export.gates import accuracy, calibration, graph, invariance, parity, saturation, speed
from export.gates.case import Structure
from export.invariance import Invariance
from export.trial import Speedup
from serving.errors import InvalidInput
from serving.tasks.text_classification import TextClassification
from tests.export import cases
from tests.serving.bundles import LABELS


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TextClassification:
    return cases.task(tmp_path_factory.mktemp("gates"))


def test_a_good_graph_passes_every_gate(task: TextClassification) -> None:
    verdicts = judging.judge(cases.case(task), {})
    assert [verdict.gate for verdict in verdicts if not verdict.passed] == []
    assert judging.code(verdicts) == 0
    assert len({gate.CODE for gate in judging.GATES}) == len(verdicts) == 7
    assert judging.NOT_MADE not in {gate.CODE for gate in judging.GATES}


# -- parity -----------------------------------------------------------------------------------------------------------


def test_parity_is_of_the_floating_point_graph(task: TextClassification) -> None:
    good = cases.case(task)
    labels = [str(row["label"]) for row in good.rows]
    assert parity.judge(dataclasses.replace(good, judged=cases.answered(task, "int8", good.rows, labels, 9.0))).passed
    off = dataclasses.replace(good, floats=cases.answered(task, "fp32", good.rows, labels, 2.1))
    verdict = parity.judge(off)
    assert not verdict.passed
    assert "largest difference 0.1" in verdict.message
    assert "0 labels flipped" in verdict.message


def test_parity_sees_a_number_that_is_none(task: TextClassification) -> None:
    good = cases.case(task)
    answers = [*good.floats.answers[:-1], {**good.floats.answers[-1], "logits": np.array([np.nan, 0, 0])}]
    assert not parity.judge(dataclasses.replace(good, floats=dataclasses.replace(good.floats, answers=answers))).passed


# -- accuracy ---------------------------------------------------------------------------------------------------------


def test_accuracy_may_lose_what_is_allowed_and_no_more(task: TextClassification) -> None:
    three = range(0, 27, 9)  # of 300: one point
    assert accuracy.judge(cases.case(task, three)).passed
    verdict = accuracy.judge(cases.case(task, [*three, 90]))
    assert not verdict.passed
    assert "lost 1.33 points, allowed 1" in verdict.message
    assert "4 rows lost, 0 gained" in verdict.message
    assert accuracy.judge(cases.case(task, [*three, 90], tolerance=2.0)).passed
    assert not accuracy.judge(cases.case(task, tolerance=float("nan"))).passed


def test_a_loss_that_is_hidden_in_one_class_fails(task: TextClassification) -> None:
    """3,000 rows, of which 29 go wrong: less than a point. They are most of the rows of one rare class."""
    case = cases.case(task, rows=3000)
    rows = [{**row, "label": "cancel" if index < 60 else LABELS[1 + index % 2]} for index, row in enumerate(case.rows)]
    labels = [str(row["label"]) for row in rows]
    spread = ["refund" if index % 100 == 0 and label != "refund" else label for index, label in enumerate(labels)]
    hidden = ["refund" if index < 29 else label for index, label in enumerate(labels)]
    case = dataclasses.replace(case, rows=rows, reference=cases.answered(task, "pytorch", rows, labels))
    assert accuracy.judge(dataclasses.replace(case, judged=cases.answered(task, "int8", rows, spread))).passed
    verdict = accuracy.judge(dataclasses.replace(case, judged=cases.answered(task, "int8", rows, hidden)))
    assert not verdict.passed
    assert "in label 'cancel' it lost 48.3 points (29 rows lost, 0 gained of 60" in verdict.message


def test_a_loss_that_is_hidden_in_long_rows_fails(task: TextClassification) -> None:
    """3,000 rows, of which 29 go wrong: less than a point. They are the longest ones."""
    longest = range(0, 2900, 100)
    lengths = [100 if index in longest else 10 + index % 30 for index in range(3000)]
    verdict = accuracy.judge(cases.case(task, longest, rows=3000, lengths=lengths))
    assert not verdict.passed
    assert "lost 0.97 points, allowed 1" in verdict.message
    assert "in length 32 to 100 it lost 3." in verdict.message


def test_rows_that_got_better_count_too(task: TextClassification) -> None:
    good = cases.case(task)
    worse = dataclasses.replace(good, reference=cases.case(task, range(0, 90, 9)).judged)
    verdict = accuracy.judge(worse)
    assert verdict.passed
    assert "0 rows lost, 10 gained" in verdict.message


# -- speed, batches, saturation, graph --------------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "passed"), [(1.01, True), (1.0, False), (0.7, False)])
def test_integers_must_be_faster_beyond_doubt(task: TextClassification, low: float, passed: bool) -> None:
    verdict = speed.judge(cases.case(task, measured=cases.measured(speedup=Speedup(1.2, low, 1.4))))
    assert verdict.passed == passed
    assert f"1.20 times as fast [{low:.2f}, 1.40]" in verdict.message


def test_the_graph_that_others_are_compared_with_has_no_speed_to_show(task: TextClassification) -> None:
    assert speed.judge(cases.case(task, measured=cases.measured(speedup=None))).passed


def test_invariance_is_held_to_where_it_was_promised(task: TextClassification) -> None:
    moved = cases.measured(invariance=Invariance(rows=32, batches=20, flips=3, difference=0.3))
    promised = invariance.judge(cases.case(task, measured=moved))
    assert not promised.passed
    assert "0.47 % of the labels flip, largest difference 30 %" in promised.message
    told = invariance.judge(cases.case(task, measured=moved, promises_invariance=False))
    assert told.passed
    assert "each row is served alone" in told.message


def test_what_this_cpu_would_get_wrong_fails_and_what_others_would_is_recorded(task: TextClassification) -> None:
    overflowing = Structure(overflows=5, sums=1000, needs=("vnni",), safe_here=False)
    assert not saturation.judge(cases.case(task, structure=overflowing)).passed
    unseen = dataclasses.replace(overflowing, overflows=0, sums=0)
    assert not saturation.judge(cases.case(task, structure=unseen)).passed
    elsewhere = saturation.judge(cases.case(task, structure=dataclasses.replace(overflowing, safe_here=True)))
    assert elsewhere.passed
    assert elsewhere.figures["needs"] == ["vnni"]
    assert "5 of 1,000 sums of the calibration rows (0.5 %) overflow" in elsewhere.message


def test_a_promise_of_the_architecture_that_is_not_kept_fails(task: TextClassification) -> None:
    broken = Structure({"layer_norm": 0}, missing=("no layer normalization, where the model has 5",))
    verdict = graph.judge(cases.case(task, structure=broken))
    assert not verdict.passed
    assert "no layer normalization, where the model has 5" in verdict.message


# -- calibration ------------------------------------------------------------------------------------------------------


def test_overconfidence_is_mended_by_the_temperature_and_chaos_is_not(task: TextClassification) -> None:
    wrong = range(0, 300, 4)
    case = cases.case(task, wrong)
    labels = [str(answer["label"]) for answer in case.judged.answers]
    sure = dataclasses.replace(
        case, reference=case.judged, judged=cases.answered(task, "int8", case.rows, labels, 20.0)
    )
    verdict = calibration.judge(sure)
    assert verdict.passed
    assert verdict.figures["graph"]["raw"] > 0.2 > verdict.figures["graph"]["error"]
    assert verdict.figures["graph"]["temperature"] > 2
    # Sure where it is wrong, and in doubt where it is right: no single scalar mends that.
    chaos = [cases.answer(task, label, 9.0 if index in wrong else 0.1) for index, label in enumerate(labels)]
    judged = dataclasses.replace(sure.judged, answers=chaos)
    assert not calibration.judge(dataclasses.replace(sure, judged=judged)).passed


def test_few_rows_say_nothing_about_calibration(task: TextClassification) -> None:
    verdict = calibration.judge(cases.case(task, rows=99))
    assert verdict.passed
    assert "too few" in verdict.message


# -- what a person accepts --------------------------------------------------------------------------------------------


def test_an_accepted_gate_holds_and_keeps_its_reason(task: TextClassification) -> None:
    slow = cases.case(task, range(0, 90, 9), measured=cases.measured(speedup=Speedup(0.5, 0.4, 0.6)))
    assert judging.code(judging.judge(slow, {})) == accuracy.CODE
    assert judging.code(judging.judge(slow, {"accuracy": "known"})) == speed.CODE
    verdicts = judging.judge(slow, {"accuracy": "known", "speed": "size matters", "graph": "not needed"})
    assert judging.code(verdicts) == 0
    kept = {verdict.gate: verdict.summary() for verdict in verdicts}
    assert (kept["speed"]["passed"], kept["speed"]["accepted"]) == (False, "size matters")
    assert kept["graph"]["accepted"] == ""


def test_reasons_are_read_and_their_absence_is_told() -> None:
    assert judging.parse_accepted(["speed=a = b", "graph=c"]) == {"speed": "a = b", "graph": "c"}
    with pytest.raises(InvalidInput) as caught:
        judging.parse_accepted(["sped=x", "speed", "graph= "])
    assert "unknown gate, got 'sped'" in str(caught.value)
    assert "no reason, got 'speed'" in str(caught.value)
    assert "no reason, got 'graph= '" in str(caught.value)

"""What a page relies on: a chart is one inline element, the same every time, that never disturbs its neighbours."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reporting import charts, comparisons, drawing
from reporting.svg import Svg

NUMBERS = st.floats(allow_nan=True, allow_infinity=False, width=32)

EVERY: dict[str, Callable[[], Svg]] = {
    "lines": lambda: charts.lines(
        {"train": ([1, 2, 3], [3.0, math.nan, 1.0]), "test": ([1, 2], [4.0, 2.0])}, "step", "loss"
    ),
    "log lines": lambda: charts.lines(
        {"latency": ([1, 10, 100], [0.0, 2.0, 900.0])}, "p", "ms", log_x=True, x_ticks={"90%": 10}
    ),
    "bars": lambda: charts.bars(["a", "b"], {"train": [1, 2], "test": [3, 4]}, "rows"),
    "bars of one series": lambda: charts.bars(["a", "b"], {"train": [1, 2]}, "rows"),
    "matrix": lambda: charts.matrix(["yes", "no"], [[5, 1], [0, 0]]),
    "distribution": lambda: charts.distribution([1, 2, 2, 3, math.nan], "ms", marks={"p50": 2}),
    "tradeoff": lambda: comparisons.tradeoff(
        [comparisons.Point("a", 1, 2, 1.5, 2.5, "kept"), comparisons.Point("b", 1, 2, 1, 3, "other", faint=True)],
        "rows a second",
        "accuracy",
        ("kept", "other"),
        ("level", 2.2),
    ),
    "nested": lambda: comparisons.nested([("a", "b", 1, 2), ("a", "c", 2, 3)], "own", "all", "%"),
    "log distribution": lambda: charts.distribution([0, 1, 20, 300], "ms", log_x=True),
}


def words(drawn: Svg) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(drawn).iter("text")]


@pytest.mark.parametrize("draw", EVERY.values(), ids=EVERY)
def test_chart_is_the_same_every_time_and_one_element(draw: Callable[[], Svg]) -> None:
    drawn = draw()
    assert drawn == draw()
    root = ElementTree.fromstring(drawn)
    assert root.tag == "svg"
    assert root.get("viewBox")
    assert root.get("role") == "img"
    assert "style" not in {element.tag for element in root.iter()}, "a style sheet would apply to the whole page"


@pytest.mark.parametrize("draw", EVERY.values(), ids=EVERY)
def test_every_reference_finds_its_target_in_the_same_chart(draw: Callable[[], Svg]) -> None:
    drawn = draw()
    targets = re.findall(r'id="([^"]+)"', drawn)
    assert len(targets) == len(set(targets))
    assert set(re.findall(r'(?:url\(|href=")#([\w.-]+)', drawn)) == set(targets)


def test_charts_of_one_page_share_no_identifier() -> None:
    found = [name for draw in EVERY.values() for name in re.findall(r'id="([^"]+)"', draw())]
    assert found
    assert len(found) == len(set(found))


@pytest.mark.parametrize("draw", EVERY.values(), ids=EVERY)
def test_text_and_axes_take_the_colour_of_the_page(draw: Callable[[], Svg]) -> None:
    drawn = draw()
    assert "currentColor" in drawn
    assert "#000000" not in drawn
    assert "#010203" not in drawn


@pytest.mark.parametrize("colour", drawing.COLOURS)
@pytest.mark.parametrize("background", ["#ffffff", "#14171c"])
def test_series_can_be_told_from_light_and_dark_backgrounds(colour: str, background: str) -> None:
    # WCAG 2.2, success criterion 1.4.11: graphical objects need a contrast of 3:1.
    def luminance(name: str) -> float:
        parts = np.array(matplotlib.colors.to_rgb(name))
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted([luminance(colour), luminance(background)], reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    before = dict(matplotlib.rcParams)
    for draw in EVERY.values():
        draw()
    assert dict(matplotlib.rcParams) == before


@settings(max_examples=10, deadline=None)
@given(st.text(), st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5), st.booleans())
def test_any_label_and_any_numbers_can_be_drawn(name: str, points: list[tuple[float, float]], log: bool) -> None:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    for drawn in (
        charts.lines({name: (xs, ys)}, name, name, log_x=log),
        charts.bars([name] * len(ys), {name: ys}, name),
        charts.distribution(ys, name, marks={name: 1.0}, log_x=log),
        charts.matrix([name], [[3]]),
    ):
        assert ElementTree.fromstring(drawn).tag.endswith("svg")
        assert drawn.encode().decode() == drawn


def test_matrix_writes_counts_of_few_classes_only() -> None:
    few = words(charts.matrix(["yes", "no"], [[5123, 17], [0, 9]]))
    assert {"5,123", "17", "9", "yes", "no", "true", "predicted"} <= set(few)
    assert "0" not in few
    many = words(charts.matrix([f"c{index}" for index in range(40)], np.full((40, 40), 777)))
    assert "777" not in many


def test_matrix_refuses_counts_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2\) for 2 labels"):
        charts.matrix(["a", "b"], [[1, 2]])


def test_marks_and_ticks_are_named() -> None:
    drawn = words(EVERY["distribution"]())
    assert "p50" in drawn
    assert "90%" in words(EVERY["log lines"]())


def test_series_are_named_where_there_are_several() -> None:
    assert {"train", "test"} <= set(words(EVERY["lines"]()))

"""What a reader relies on: every thing that is compared is named, and no name covers another."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reporting.comparisons import Point, nested, tradeoff
from reporting.svg import Svg

KINDS = ("kept", "passes", "fails")
NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=32)


def places(drawn: Svg) -> dict[str, tuple[float, float]]:
    """Where every text of a chart begins."""
    texts = ElementTree.fromstring(drawn).iter("text")
    return {text.text or "": (float(text.get("x", 0)), float(text.get("y", 0))) for text in texts}


def point(name: str, x: float, y: float, kind: str = "passes", *, faint: bool = False) -> Point:
    return Point(name, x, y, y - 0.02, y + 0.02, kind, faint)


@pytest.mark.parametrize("many", [2, 9, 30])
def test_names_of_points_at_one_place_are_lines_apart_and_inside_the_chart(many: int) -> None:
    points = [point(f"graph-{index}", 700 + 0.1 * index, 0.9) for index in range(many)]
    drawn = tradeoff(points, "rows a second", "accuracy", KINDS, ("PyTorch", 0.9))
    found = places(drawn)
    heights = sorted(found[name][1] for name in [*(point.name for point in points), "PyTorch"])
    assert min(high - low for low, high in pairwise(heights)) > 10
    _, _, _, tall = map(float, str(ElementTree.fromstring(drawn).get("viewBox")).split())
    assert heights[0] > 0
    assert heights[-1] < tall


def test_names_stand_in_the_order_of_their_points_beside_the_plot() -> None:
    points = [point("low", 100, 0.7), point("high", 300, 0.95, "kept"), point("middle", 200, 0.8, "fails")]
    found = places(tradeoff(points, "rows a second", "accuracy", KINDS, ("PyTorch", 0.9)))
    names = ["high", "PyTorch", "middle", "low"]
    assert sorted(names, key=lambda name: found[name][1]) == names
    assert len({found[name][0] for name in names}) == 1


def test_only_kinds_that_are_there_are_explained() -> None:
    found = places(tradeoff([point("a", 1, 1), point("b", 2, 2, "kept")], "x", "y", KINDS))
    assert {"kept", "passes"} <= set(found)
    assert "fails" not in found


def test_points_that_are_outdone_are_paler() -> None:
    def shown(*, faint: bool) -> int:
        drawn = tradeoff([point("a", 1, 1, faint=faint)], "x", "y", KINDS)
        return drawn.count("opacity: 0.4")

    assert shown(faint=True) > shown(faint=False)


def test_points_without_a_number_are_left_out() -> None:
    found = places(tradeoff([point("a", 1, 1), point("b", 1, float("nan"))], "x", "y", KINDS))
    assert "a" in found
    assert "b" not in found


def test_bars_stand_under_the_name_of_their_group_in_the_order_given() -> None:
    rows = [("layer 1", "query", 1.0, 2.0), ("layer 1", "key", 1.5, 3.0), ("layer 0", "value", 0.5, 4.0)]
    found = places(nested(rows, "own", "accumulated", "%"))
    names = ["layer 1", "query", "key", "layer 0", "value"]
    heights = [found[name][1] for name in names]
    assert heights == sorted(heights)
    assert min(high - low for low, high in pairwise(heights)) > 8
    assert {"own", "accumulated"} <= set(found)


@settings(max_examples=10, deadline=None)
@given(st.text(), st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5))
def test_any_name_and_any_numbers_can_be_drawn(name: str, pairs: list[tuple[float, float]]) -> None:
    points = [Point(name, x, y, x, x, name) for x, y in pairs]
    for drawn in (
        tradeoff(points, name, name, (name,), (name, 1.0)),
        nested([(name, name, x, y) for x, y in pairs], name, name, name),
    ):
        assert ElementTree.fromstring(drawn).tag.endswith("svg")

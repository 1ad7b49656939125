"""Charts that hold one thing against another: what is given up for what, and a part of an error against all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from reporting import drawing
from reporting.svg import INK, Svg

# Kinds of points differ in shape as well as in colour.
MARKERS: Final = ("*", "o", "X", "s", "^", "D")
PALE: Final = 0.4
# Between two lines of text in letters of 8 units.
LINE: Final = 11.5


@dataclass(frozen=True)
class Point:
    """One thing by two figures; ``low`` and ``high`` are the interval of ``y``. A faint one is outdone by another."""

    name: str
    x: float
    y: float
    low: float
    high: float
    kind: str
    faint: bool = False


def tradeoff(
    points: Sequence[Point], x: str, y: str, kinds: Sequence[str], level: tuple[str, float] | None = None
) -> Svg:
    """Points with the intervals of their y, each named at the right in the order of y, and a ``level`` to compare with.

    ``kinds`` are what a point may be, the best first: it is drawn above the others, and its name in bold. Points that
    are no numbers are left out.
    """
    points = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    with drawing.chart(max(3.2, 1.2 + LINE * (len(points) + 1) / 72)) as (figure, axes):
        for index, kind in enumerate(kinds):
            own = [point for point in points if point.kind == kind]
            for point in own:
                _point(axes, point, index)
            if own:
                size, shape = 11 if index == 0 else 7, MARKERS[index % len(MARKERS)]
                axes.plot([], [], shape, color=drawing.colour(index), markersize=size, label=drawing.label(kind))
        axes.margins(x=0.08)
        names = [_name(axes, point.name, point.x, point.y, strong=point.kind == kinds[0]) for point in points]
        if level:
            axes.axhline(level[1], color=INK, alpha=0.7, linewidth=0.9, linestyle=(0, (4, 3)))
            names.append(_name(axes, level[0], axes.get_xlim()[1], level[1]))
        drawing.scale(axes, log_x=False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set(xlabel=drawing.label(x), ylabel=drawing.label(y))
        drawing.grid(axes, "both")
        drawing.legend(figure, axes)
        _spread(figure, axes, names)
        return drawing.finished(figure, f"{y} against {x} of {', '.join(point.name for point in points)}")


def nested(rows: Sequence[tuple[str, str, float, float]], inner: str, outer: str, x: str) -> Svg:
    """Lying bars with narrower ones inside: rows are ``(group, name, inner, outer)``, in the order given.

    Rows of one group that follow each other stand together under its name. ``inner`` and ``outer`` name the bars, ``x``
    the values; what is no finite number has no bar.
    """
    lines: list[str] = []
    places: list[int] = []
    heads: list[int] = []
    for group, members in groupby(rows, key=lambda row: row[0]):
        heads.append(len(lines))
        lines.append(group)
        for _, name, *_ in members:
            places.append(len(lines))
            lines.append(name)
    with drawing.chart(1.0 + 0.16 * len(lines)) as (figure, axes):
        _bars(axes, places, [row[3] for row in rows], 0.8, outer, 1, PALE)
        _bars(axes, places, [row[2] for row in rows], 0.4, inner, 0, 1.0)
        axes.yaxis.set_ticks(range(len(lines)), [drawing.label(line) for line in lines], fontsize=8)
        for head in heads:
            axes.get_yticklabels()[head].set_fontweight("bold")
        axes.yaxis.set_tick_params(length=0)
        axes.xaxis.set_major_formatter(FuncFormatter(drawing.tick))
        axes.set(xlabel=drawing.label(x), ylim=(len(lines) - 0.3, -0.7))
        drawing.grid(axes, "x")
        drawing.legend(figure, axes)
        return drawing.finished(figure, f"{x} of {len(rows)}: {inner}, {outer}")


def _bars(
    axes: Axes, places: Sequence[int], values: Sequence[float], thick: float, name: str, index: int, alpha: float
) -> None:
    lengths = [value if math.isfinite(value) else math.nan for value in values]
    axes.barh(places, lengths, thick, color=drawing.colour(index), alpha=alpha, label=drawing.label(name))


def _point(axes: Axes, point: Point, index: int) -> None:
    best, alpha = index == 0, PALE if point.faint else 1.0
    shape, size = MARKERS[index % len(MARKERS)], 12 if best else 7
    reach = [max(0.0, side) if math.isfinite(side) else 0.0 for side in (point.y - point.low, point.high - point.y)]
    axes.errorbar(
        point.x, point.y, [[reach[0]], [reach[1]]], fmt=shape,
        markersize=size, color=drawing.colour(index), alpha=alpha, elinewidth=1.2, capsize=3,
        markeredgewidth=0.0, zorder=5 if best else 3,
    )  # fmt: skip


def _name(axes: Axes, name: str, x: float, y: float, *, strong: bool = False) -> Annotation:
    """A name right of the plot with a line to its point; its height is set when all are there."""
    line = {"arrowstyle": "-", "color": INK, "alpha": 0.3, "linewidth": 0.6}
    return axes.annotate(
        drawing.label(name), xy=(x, y), xytext=(1.04, 0.5), textcoords="axes fraction", va="center", fontsize=8,
        fontweight="bold" if strong else "normal", annotation_clip=False,
        arrowprops={**line, "shrinkA": 2, "shrinkB": 3, "relpos": (0, 0.5)},
    )  # fmt: skip


def _spread(figure: Figure, axes: Axes, names: Sequence[Annotation]) -> None:
    """Give the names heights near those of their points, a line apart at the least."""
    figure.draw_without_rendering()
    # At 72 dots an inch, pixels are points.
    tall = axes.get_window_extent().height * 72 / figure.dpi
    low, high = axes.get_ylim()
    ordered = sorted(names, key=lambda name: name.xy[1])
    wanted = np.array([tall * (name.xy[1] - low) / (high - low) for name in ordered])
    free = wanted - LINE * np.arange(len(ordered))
    # The nearest heights in order with a gap: of those without gaps, the mean of what is out of order (pool adjacent
    # violators), then the gaps again.
    heights = _in_order(free) + LINE * np.arange(len(ordered))
    heights -= max(0.0, float(heights[-1]) - tall) if len(heights) else 0.0
    for name, height in zip(ordered, heights, strict=True):
        name.set_position((1.04, height / tall))


def _in_order(values: NDArray[np.float64]) -> NDArray[np.float64]:
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([float(value)])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    return np.array([np.mean(block) for block in blocks for _ in block])

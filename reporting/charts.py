"""Charts as inline SVG that suits a light and a dark page.

Every function is deterministic: the same numbers give the same text. Labels may be any text, for they come from data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import ArrayLike

from reporting import drawing
from reporting.svg import INK, Svg


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    log_x: bool = False,
    x_ticks: Mapping[str, float] | None = None,
    from_zero: bool = False,
) -> Svg:
    """Curves ``name -> (xs, ys)``; NaN leaves a gap.

    ``x`` and ``y`` name the axes with their units. ``x_ticks`` names the only ticks of x. ``from_zero`` begins y at 0.
    """
    with drawing.chart(2.8) as (figure, axes):
        for index, (name, (xs, ys)) in enumerate(series.items()):
            style = drawing.STYLES[index // len(drawing.COLOURS) % len(drawing.STYLES)]
            across, up = drawing.plottable(xs, log_x), np.asarray(ys, dtype=np.float64)
            # Without a dot a lone point, or one between two gaps, would not be seen.
            dot = "o" if len(across) <= 40 else ""
            axes.plot(
                across, up, style, label=drawing.label(name), color=drawing.colour(index), marker=dot, markersize=3
            )
            # The first series is what the chart is about, so it lies above the others.
            axes.lines[-1].set_zorder(3 - index / len(series))
        drawing.scale(axes, log_x)
        axes.set(xlabel=drawing.label(x), ylabel=drawing.label(y))
        if x_ticks:
            axes.xaxis.set_major_locator(FixedLocator(list(x_ticks.values())))
            axes.xaxis.set_ticklabels([drawing.label(name) for name in x_ticks])
        if from_zero:
            axes.set_ylim(bottom=0)
        drawing.grid(axes, "both")
        drawing.legend(figure, axes)
        return drawing.finished(figure, f"{y} over {x}")


def bars(groups: Sequence[str], series: Mapping[str, Sequence[float]], y: str) -> Svg:
    """Lying bars for every group, one under another for the series ``name -> one value per group``.

    ``y`` names the values.
    """
    many, names = max(1, len(series)), [drawing.label(group) for group in groups]
    with drawing.chart(max(1.6, 0.9 + 0.21 * len(groups) * many)) as (figure, axes):
        places, thick = np.arange(len(groups), dtype=float), 0.8 / many
        for index, (name, values) in enumerate(series.items()):
            at = places + (index - (many - 1) / 2) * thick
            lengths = np.asarray(values, dtype=float)
            drawn = axes.barh(at, lengths, 0.92 * thick, label=drawing.label(name), color=drawing.colour(index))
            if len(groups) * many <= 60:
                axes.bar_label(drawn, fmt=drawing.digits, padding=2, fontsize=8)
        axes.yaxis.set_ticks(places, names)
        axes.yaxis.set_tick_params(length=0)
        axes.xaxis.set_major_formatter(FuncFormatter(drawing.tick))
        axes.margins(x=0.12)
        axes.set(xlabel=drawing.label(y), ylim=(len(groups) - 0.5, -0.5))
        drawing.grid(axes, "x")
        drawing.legend(figure, axes)
        return drawing.finished(figure, f"{y} of {', '.join(names[:20])}")


def matrix(labels: Sequence[str], counts: ArrayLike) -> Svg:
    """A confusion matrix: rows are true classes, columns are predicted ones.

    ``counts`` has shape ``(len(labels), len(labels))``, of one class at least. The shade is the square root of the
    share of the row, so that rare errors can be seen. Counts stand in the cells up to 25 classes; where
    labels do not fit, every second or third is written. Raises ValueError for another shape.
    """
    table, size = np.asarray(counts, dtype=float), len(labels)
    if table.shape != (size, size) or not size:
        raise ValueError(f"counts: has shape {table.shape} for {size} labels; give one row and one column a label")
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    # One colour that is more or less transparent, instead of a colour map that ends in white, suits both backgrounds.
    shade = np.zeros((size, size, 4))
    shade[..., :3] = matplotlib.colors.to_rgb(drawing.COLOURS[0])
    shade[..., 3] = np.sqrt(share)
    names = [drawing.label(label, 24) for label in labels]
    gutter = 0.4 + 0.085 * max(map(len, names))
    cell = min(0.45, (drawing.WIDTH - gutter - 0.2) / size)
    step = math.ceil(6.5 / (72 * cell))
    with drawing.chart(size * cell + gutter + 0.2) as (figure, axes):
        axes.imshow(shade, interpolation="none", extent=(-0.5, size - 0.5, size - 0.5, -0.5))
        if size <= 25:
            for row, column in zip(*np.nonzero(table), strict=True):
                count = f"{table[row, column]:,.0f}"
                # A digit is about 0.65 of its size wide.
                fitting = min(9, 72 * 0.92 * cell / (0.65 * len(count)))
                axes.text(column, row, count, ha="center", va="center", fontsize=fitting)
        small = min(9, 0.9 * 72 * cell * step)
        axes.set_xticks(range(0, size, step), names[::step], rotation=90, fontsize=small)
        axes.set_yticks(range(0, size, step), names[::step], fontsize=small)
        axes.set(xlabel="predicted", ylabel="true")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set(visible=True, alpha=0.4)
        return drawing.finished(figure, f"confusion matrix of {size} classes")


def distribution(values: ArrayLike, x: str, marks: Mapping[str, float] | None = None, log_x: bool = False) -> Svg:
    """A histogram of the finite ``values`` (the positive ones where ``log_x``) with named vertical lines ``marks``."""
    kept = drawing.plottable(values, log_x).ravel()
    kept = kept[np.isfinite(kept)]
    with drawing.chart(2.6) as (figure, axes):
        if kept.size:
            low, high = float(kept.min()), float(kept.max())
            count = int(np.clip(math.sqrt(kept.size), 8, 60))
            if log_x:
                edges = np.geomspace(low / 1.05, high * 1.05, count + 1)
            else:
                wide = (high - low) or max(abs(low), 1.0) * 0.1
                edges = np.linspace(low - 0.01 * wide, high + 0.01 * wide, count + 1)
            axes.hist(kept, bins=edges.tolist(), color=drawing.COLOURS[0], linewidth=0)
        drawing.scale(axes, log_x)
        axes.set(xlabel=drawing.label(x), ylabel="count")
        drawing.grid(axes, "y")
        _marks(axes, marks or {})
        return drawing.finished(figure, f"distribution of {x}")


def _marks(axes: Axes, marks: Mapping[str, float]) -> None:
    """Dashed vertical lines, named above the plot in as many rows as keep the names apart."""
    places = {name: place for name, place in marks.items() if place > 0 or axes.get_xscale() == "linear"}
    for place in places.values():
        axes.axvline(place, color=INK, alpha=0.7, linewidth=0.9, linestyle=(0, (4, 3)))
    ends: list[float] = []
    scale, floor = axes.transScale + axes.transLimits, axes.get_ylim()[0]
    for name, place in sorted(places.items(), key=lambda mark: mark[1]):
        text = drawing.label(name)
        at, half = float(scale.transform((place, floor))[0]), 0.0075 * len(text)
        row = next((row for row, end in enumerate(ends) if end < at - half), len(ends))
        ends[row : row + 1] = [at + half + 0.02]
        axes.text(at, 1.02 + 0.075 * row, text, transform=axes.transAxes, ha="center", va="bottom", fontsize=8)

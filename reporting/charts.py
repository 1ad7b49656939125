"""Charts as inline SVG that suits a light and a dark page.

Every function is deterministic: the same numbers give the same text. Labels may be any text, for they come from data.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

from reporting.svg import INK, Svg, inline

WIDTH = 7.2
"""Inches. At 72 units an inch a chart is 518 units wide, so its 9-unit text is 14 px high on a page of 820 px."""

# Luminance 0.14 to 0.29: each has a contrast of at least 3:1 with white and with the page's dark background.
COLOURS = ("#2f7fd6", "#d9722b", "#b45fc4", "#159a72", "#d64a5b", "#8a8f2a")
STYLES = ("-", "--", ":", "-.")

_LOOK: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "downstream",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
}


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
    with _drawing(2.8) as (figure, axes):
        for index, (name, (xs, ys)) in enumerate(series.items()):
            style = STYLES[index // len(COLOURS) % len(STYLES)]
            across, up = _plottable(xs, log_x), np.asarray(ys, dtype=np.float64)
            # Without a dot a lone point, or one between two gaps, would not be seen.
            dot = "o" if len(across) <= 40 else ""
            axes.plot(across, up, style, label=_label(name), color=_colour(index), marker=dot, markersize=3)
            # The first series is what the chart is about, so it lies above the others.
            axes.lines[-1].set_zorder(3 - index / len(series))
        _scale(axes, log_x)
        axes.set(xlabel=_label(x), ylabel=_label(y))
        if x_ticks:
            axes.xaxis.set_major_locator(FixedLocator(list(x_ticks.values())))
            axes.xaxis.set_ticklabels([_label(name) for name in x_ticks])
        if from_zero:
            axes.set_ylim(bottom=0)
        _grid(axes, "both")
        _legend(figure, axes)
        return _svg(figure, f"{y} over {x}")


def bars(groups: Sequence[str], series: Mapping[str, Sequence[float]], y: str) -> Svg:
    """Lying bars for every group, one under another for the series ``name -> one value per group``.

    ``y`` names the values.
    """
    many, names = max(1, len(series)), [_label(group) for group in groups]
    with _drawing(max(1.6, 0.9 + 0.21 * len(groups) * many)) as (figure, axes):
        places, thick = np.arange(len(groups), dtype=float), 0.8 / many
        for index, (name, values) in enumerate(series.items()):
            at = places + (index - (many - 1) / 2) * thick
            lengths = np.asarray(values, dtype=float)
            drawn = axes.barh(at, lengths, 0.92 * thick, label=_label(name), color=_colour(index))
            if len(groups) * many <= 60:
                axes.bar_label(drawn, fmt=_short, padding=2, fontsize=8)
        axes.yaxis.set_ticks(places, names)
        axes.yaxis.set_tick_params(length=0)
        axes.xaxis.set_major_formatter(FuncFormatter(_number))
        axes.margins(x=0.12)
        axes.set(xlabel=_label(y), ylim=(len(groups) - 0.5, -0.5))
        _grid(axes, "x")
        _legend(figure, axes)
        return _svg(figure, f"{y} of {', '.join(names[:20])}")


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
    shade[..., :3] = matplotlib.colors.to_rgb(COLOURS[0])
    shade[..., 3] = np.sqrt(share)
    names = [_label(label, 24) for label in labels]
    gutter = 0.4 + 0.085 * max(map(len, names))
    cell = min(0.45, (WIDTH - gutter - 0.2) / size)
    step = math.ceil(6.5 / (72 * cell))
    with _drawing(size * cell + gutter + 0.2) as (figure, axes):
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
        return _svg(figure, f"confusion matrix of {size} classes")


def distribution(values: ArrayLike, x: str, marks: Mapping[str, float] | None = None, log_x: bool = False) -> Svg:
    """A histogram of the finite ``values`` (the positive ones where ``log_x``) with named vertical lines ``marks``."""
    kept = _plottable(values, log_x).ravel()
    kept = kept[np.isfinite(kept)]
    with _drawing(2.6) as (figure, axes):
        if kept.size:
            low, high = float(kept.min()), float(kept.max())
            count = int(np.clip(math.sqrt(kept.size), 8, 60))
            if log_x:
                edges = np.geomspace(low / 1.05, high * 1.05, count + 1)
            else:
                wide = (high - low) or max(abs(low), 1.0) * 0.1
                edges = np.linspace(low - 0.01 * wide, high + 0.01 * wide, count + 1)
            axes.hist(kept, bins=edges.tolist(), color=COLOURS[0], linewidth=0)
        _scale(axes, log_x)
        axes.set(xlabel=_label(x), ylabel="count")
        _grid(axes, "y")
        _marks(axes, marks or {})
        return _svg(figure, f"distribution of {x}")


@contextmanager
def _drawing(height: float) -> Iterator[tuple[Figure, Axes]]:
    with matplotlib.rc_context(_LOOK), warnings.catch_warnings():
        # A glyph that the measuring font lacks is drawn by the browser's own; a crowded layout is still drawn.
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots()


def _svg(figure: Figure, label: str) -> Svg:
    target = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(target, format="svg", transparent=True, metadata=nothing)
    return inline(target.getvalue(), _label(label, 200))


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _label(text: str, longest: int = 40) -> str:
    """Text of any origin on one line of printable characters, at most ``longest`` of them."""
    line = "".join(character if character.isprintable() else "\ufffd" for character in " ".join(str(text).split()))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _number(value: float, _position: object = None) -> str:
    return f"{value:,.10g}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _plottable(values: ArrayLike, log: bool) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return np.where(array > 0, array, np.nan) if log else array


def _scale(axes: Axes, log_x: bool) -> None:
    # Without one positive value a logarithmic axis has no place to begin.
    if log_x and math.isfinite(axes.dataLim.minposx):
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 3000 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_number))


def _grid(axes: Axes, which: str) -> None:
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="both" if which == "both" else ("x" if which == "x" else "y"))
    for line in (*axes.get_xgridlines(), *axes.get_ygridlines()):
        line.set(color=INK, alpha=0.14, linewidth=0.6)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(handles)), fontsize=8.5)


def _marks(axes: Axes, marks: Mapping[str, float]) -> None:
    """Dashed vertical lines, named above the plot in as many rows as keep the names apart."""
    places = {name: place for name, place in marks.items() if place > 0 or axes.get_xscale() == "linear"}
    for place in places.values():
        axes.axvline(place, color=INK, alpha=0.7, linewidth=0.9, linestyle=(0, (4, 3)))
    ends: list[float] = []
    scale, floor = axes.transScale + axes.transLimits, axes.get_ylim()[0]
    for name, place in sorted(places.items(), key=lambda mark: mark[1]):
        text = _label(name)
        at, half = float(scale.transform((place, floor))[0]), 0.0075 * len(text)
        row = next((row for row, end in enumerate(ends) if end < at - half), len(ends))
        ends[row : row + 1] = [at + half + 0.02]
        axes.text(at, 1.02 + 0.075 * row, text, transform=axes.transAxes, ha="center", va="bottom", fontsize=8)

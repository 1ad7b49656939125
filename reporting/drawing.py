"""What all charts have in common: their size, their look in light and dark, their axes, grids and labels."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
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


@contextmanager
def chart(height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of that many inches with one pair of axes, in the look of the page."""
    with matplotlib.rc_context(_LOOK), warnings.catch_warnings():
        # A glyph that the measuring font lacks is drawn by the browser's own; a crowded layout is still drawn.
        warnings.simplefilter("ignore", UserWarning)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots()


def finished(figure: Figure, words: str) -> Svg:
    """The finished figure; ``words`` are for screen readers."""
    target = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(target, format="svg", transparent=True, metadata=nothing)
    return inline(target.getvalue(), label(words, 200))


def colour(index: int) -> str:
    """The colour of a series; after the last one the first comes again."""
    return COLOURS[index % len(COLOURS)]


def label(text: str, longest: int = 40) -> str:
    """Text of any origin on one line of printable characters, at most ``longest`` of them."""
    line = "".join(character if character.isprintable() else "\ufffd" for character in " ".join(str(text).split()))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def tick(value: float, _position: object = None) -> str:
    """A tick of an axis."""
    return f"{value:,.10g}"


def digits(value: float) -> str:
    """A number beside its bar, with three digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def plottable(values: ArrayLike, log: bool) -> NDArray[np.float64]:
    """The values as floats; on a logarithmic axis NaN where they have no place."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(array > 0, array, np.nan) if log else array


def scale(axes: Axes, log_x: bool) -> None:
    """Numbers on both axes, x logarithmic if wanted."""
    # Without one positive value a logarithmic axis has no place to begin.
    if log_x and math.isfinite(axes.dataLim.minposx):
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 3000 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(tick))


def grid(axes: Axes, which: str) -> None:
    """Faint lines behind the data; ``which`` is x, y or both."""
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="both" if which == "both" else ("x" if which == "x" else "y"))
    for line in (*axes.get_xgridlines(), *axes.get_ygridlines()):
        line.set(color=INK, alpha=0.14, linewidth=0.6)


def legend(figure: Figure, axes: Axes) -> None:
    """The names of the series under the chart, where there are several."""
    handles, names = axes.get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(handles, names, loc="outside lower center", ncols=min(4, len(handles)), fontsize=8.5)

"""One self-contained HTML page: no script, no external file, light and dark, readable on a phone and on paper.

Every text is escaped, whoever wrote it; the only markup taken as it is comes from ``reporting.charts``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from reporting.svg import Svg


@dataclass(frozen=True)
class Block:
    """One element of a section: its kind chooses the part of the template that draws ``content``."""

    kind: str
    content: Mapping[str, object]


@dataclass(frozen=True)
class Toned:
    """A value of a table that also says by its look what it is: good, bad, warn, soft, a name, or a strong name."""

    value: object
    tone: str


@dataclass(frozen=True)
class Section:
    """A heading, what stands under it, and a note in small letters."""

    heading: str
    blocks: tuple[Block, ...]
    note: str


def facts(figures: Mapping[str, object]) -> Block:
    """Tiles of ``name -> key figure``; numbers are shown with four digits.

    A tuple of two is a figure and what stands below it in small letters, as its interval.
    """
    pairs = {name: value if isinstance(value, tuple) else (value, "") for name, value in figures.items()}
    return Block("facts", {"figures": {name: (shown(value), shown(small)) for name, (value, small) in pairs.items()}})


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], numeric: Collection[int] = ()) -> Block:
    """A table with one value per header in every row; the columns ``numeric`` are aligned to the right.

    A value may be ``Toned``. Raises ValueError where a row is shorter or longer than the headers.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    for number, row in enumerate(cells, start=1):
        if len(row) != len(headers):
            raise ValueError(f"row {number}: has {len(row)} values for {len(headers)} headers; give one value a header")
    return Block("table", {"headers": list(headers), "rows": cells, "numeric": frozenset(numeric)})


def figure(svg: Svg, caption: str = "") -> Block:
    """A chart of ``reporting.charts`` with an optional caption."""
    return Block("figure", {"svg": Markup(svg), "caption": caption})  # noqa: S704 - the type Svg is the trust


def text(paragraph: str) -> Block:
    """A paragraph; line breaks are kept."""
    return Block("text", {"paragraph": paragraph})


def verdict(passed: bool, message: str, *, name: str = "", accepted: str = "", note: str = "") -> Block:
    """One line that says whether a gate or a limit holds, in words as well as in colour.

    ``name`` is that of the gate, ``accepted`` why a failure was let pass; ``note`` stands below in small letters.
    """
    word = "Passed" if passed else "Accepted" if accepted else "Failed"
    return Block("verdict", {"word": word, "name": name, "message": message, "accepted": accepted, "note": note})


def code(listing: str) -> Block:
    """Text in a fixed-width face, with its white space kept."""
    return Block("code", {"listing": listing})


def folded(summary: str, *blocks: Block) -> Block:
    """Blocks that a reader opens by their ``summary``; on paper they are open."""
    return Block("folded", {"summary": summary, "blocks": blocks})


def shown(value: object) -> str:
    """A value as a reader wants it: numbers with four digits and thousands apart, a dash for what is not there."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Not int and float, for numpy's numbers are neither.
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        number = float(value)
        if math.isnan(number):
            return "—"
        return f"{number:,.0f}" if 1000 <= abs(number) < 1e15 else f"{number:.4g}"
    if value is None:
        return "—"
    return str(value)


def _cell(value: object) -> tuple[str, str]:
    """A value of a table as it is shown, with its tone."""
    return (shown(value.value), value.tone) if isinstance(value, Toned) else (shown(value), "")


class Page:
    """A page that grows by sections, in the order in which they are added."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._sections: list[Section] = []

    def section(self, heading: str, *blocks: Block, note: str = "") -> None:
        """Add a section; ``note`` is a remark in small letters under the heading."""
        self._sections.append(Section(heading, blocks, note))

    def html(self) -> str:
        """The whole document."""
        return _template().render(title=self.title, subtitle=self.subtitle, sections=self._sections)

    def write(self, path: Path) -> None:
        """Write the page in UTF-8, so that a reader finds the old file or the whole new one. Raises OSError."""
        temporary = path.with_name(path.name + ".partial")
        # A lone surrogate, which real data holds, has no UTF-8; as a reference a browser shows the sign for it.
        temporary.write_bytes(self.html().encode("utf-8", "xmlcharrefreplace"))
        temporary.replace(path)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("reporting", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2")

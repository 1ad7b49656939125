"""Tables and lines on a terminal, or plain where there is none; what bundles say is shown without its control codes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Of a file or a pipe, where a line has no end to be cut at.
WIDE = 200


def console() -> Console:
    """Standard output; without colours, and wide, where it is no terminal."""
    width = None if sys.stdout.isatty() else WIDE
    return Console(width=width, markup=False, highlight=False, emoji=False)


def heading(console: Console, text: str) -> None:
    """One line in bold."""
    console.print(cell(text, "bold"), soft_wrap=True)


def line(console: Console, passed: bool, name: str, message: str) -> None:
    """One check, and what came of it."""
    mark = Text("ok    ", "green") if passed else Text("WRONG ", "bold red")
    console.print(Text("  ") + mark + cell(f"{name:<16} {message}"), soft_wrap=True)


def pairs(console: Console, title: str, values: Mapping[str, Any]) -> None:
    """Names and values, under a title; nothing where there are none."""
    if values:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in values.items():
            table.add_row(cell(name), cell(value))
        console.print()
        heading(console, title)
        console.print(table)


def columns(console: Console, title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """A table of rows, under a title; nothing where there are none, and no column that is empty in all of them."""
    kept = list(rows)
    names = list(dict.fromkeys(name for row in kept for name, value in row.items() if value not in (None, "")))
    if kept:
        table = Table(box=SIMPLE_HEAD, header_style="dim", show_edge=False, pad_edge=True, collapse_padding=True)
        for name in names:
            table.add_column(cell(name), overflow="fold", no_wrap=name == names[0])
        for row in kept:
            table.add_row(*(cell(row.get(name)) for name in names))
        console.print()
        heading(console, title)
        console.print(table)


def cell(value: Any, style: str = "") -> Text:
    """A value of a stranger's manifest as text that can do nothing to a terminal."""
    if isinstance(value, list):
        value = f"[{', '.join(map(str, value))}]"
    told = "-" if value is None else str(value)
    return Text("".join(character if character.isprintable() else "�" for character in told), style)

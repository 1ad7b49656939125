"""Faults of a recipe or a data set, gathered so that all of them are told at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

SHOWN = 20


class RecipeError(Exception):
    """The recipe or its data cannot be used; the text lists every fault with its place and remedy."""


@dataclass
class Faults:
    """A growing list of faults, each with the place (file and line) where it was found."""

    _lines: list[str] = field(default_factory=list)

    def add(self, place: str, message: str) -> None:
        """Note one fault."""
        self._lines.append(f"{place}: {message}")

    def extend(self, others: Iterable[str]) -> None:
        """Note faults that already begin with their place."""
        self._lines.extend(others)

    def __len__(self) -> int:
        return len(self._lines)

    def raise_any(self) -> None:
        """Raise RecipeError if there is a fault; beyond 20 the rest is counted."""
        if not self._lines:
            return
        shown = self._lines[:SHOWN]
        if len(self._lines) > SHOWN:
            shown.append(f"... and {len(self._lines) - SHOWN} more")
        count = f"{len(self._lines)} fault{'s' if len(self._lines) > 1 else ''}"
        raise RecipeError(f"{count}; nothing was trained:\n" + "\n".join(f"  {line}" for line in shown))

"""Faults of a recipe or a data set, gathered so that all of them are told at once."""

from __future__ import annotations

from dataclasses import dataclass, field

SHOWN = 20


class RecipeError(Exception):
    """The recipe or its data cannot be used; the text lists every fault with its place and remedy."""


@dataclass
class Faults:
    """A growing list of faults, each with the place (file and line) where it was found.

    ``places`` maps dotted keys of the recipe to where they were set: a file and line, or the command line.
    """

    _lines: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def add_key(self, key: str, message: str) -> None:
        """Note a fault of one key of the recipe (dotted); its place is the nearest key that ``places`` knows."""
        known = key
        while known and known not in self.places:
            known = known.rpartition(".")[0]
        self.add(self.places.get(known, "recipe"), f"{key}: {message}")

    def add(self, place: str, message: str) -> None:
        """Note one fault."""
        self._lines.append(f"{place}: {message}")

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

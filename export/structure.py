"""What a graph is made of, in the session that serves it."""

from __future__ import annotations

from export.floating import Floats
from export.gates.case import Structure
from export.rungs import Source


def of_floats(floats: Floats) -> Structure:
    """Of the floating-point graph."""
    return Structure()


def of_integers(source: Source, rung: str) -> Structure:
    """Of an integer graph."""
    return Structure()

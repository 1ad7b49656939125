"""The index of a repository: every version that was ever tried since the start, its state, and why it is not ready."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# A model whose configuration cannot be read has no versions yet.
NO_VERSION = 0
UNLOADED = "unloaded"


@dataclass(frozen=True)
class Entry:
    """One version in the index; ``state`` is READY, LOADING or UNAVAILABLE, ``reason`` says why not READY."""

    name: str
    version: int
    state: str
    reason: str = ""


class Index:
    """Entries by name and version; written by the thread that loads, read by all."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], Entry] = {}

    def note(self, name: str, version: int, state: str, reason: str = "") -> None:
        """Say how a version is now."""
        self._entries[name, version] = Entry(name, version, state, reason)

    def replace(self, entries: Iterable[Entry]) -> None:
        """Say of every version what another process says."""
        self._entries = {(entry.name, entry.version): entry for entry in entries}

    def drop_model(self, name: str) -> None:
        """Forget what was said of a model as a whole, before its versions were known."""
        self._entries.pop((name, NO_VERSION), None)

    def entries(self, name: str | None = None) -> list[Entry]:
        """Every entry, or those of a model, in order."""
        # One step, since the thread that loads changes the dictionary.
        found = sorted(self._entries.copy().items())
        return [entry for _, entry in found if name in (None, entry.name)]

    def awaited(self, name: str) -> list[Entry]:
        """The entries of a model that are still to come."""
        return [entry for entry in self.entries(name) if entry.state == "LOADING"]

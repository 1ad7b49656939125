"""Where a server process logs to: standard error, one line per event."""

from __future__ import annotations

import logging

from serving.settings import Settings


def begin(settings: Settings, mark: str = "") -> None:
    """Log the lines of this process, each with the mark in front of its source."""
    logging.basicConfig(level=logging.WARNING, format=f"%(asctime)s %(levelname)s {mark}%(name)s: %(message)s")
    logging.getLogger("serving").setLevel(settings.log_level.upper())

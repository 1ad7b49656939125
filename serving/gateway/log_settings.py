"""The logging extension of KServe v2, over Python's own logging."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from serving.errors import InvalidInput, Unsupported, shown

LOGGER = "serving"
FORMATS = ("default", "ISO8601")
# What the message of gRPC holds.
MOST_VERBOSE = 2**32 - 1
LEVELS = {"log_info": logging.INFO, "log_warning": logging.WARNING, "log_error": logging.ERROR}
WANTED = {**dict.fromkeys(LEVELS, "true or false"), "log_verbose_level": "a whole number of at least 0",
          "log_format": " or ".join(FORMATS)}  # fmt: skip


class LogSettings:
    """What this server logs; nothing is changed before the first ``update``."""

    def __init__(self) -> None:
        logger = logging.getLogger(LOGGER)
        self._settings: dict[str, Any] = {
            "log_file": "",
            **{name: logger.isEnabledFor(level) for name, level in LEVELS.items()},
            "log_verbose_level": int(logger.isEnabledFor(logging.DEBUG)),
            "log_format": "default",
        }
        self._formatters: dict[logging.Handler, logging.Formatter | None] = {}

    def settings(self) -> dict[str, Any]:
        """The settings as the protocol names them."""
        return dict(self._settings)

    def update(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Change settings, all of them or none; None leaves one as it is. Raises InvalidInput and Unsupported."""
        if changes.get("log_file") is not None:
            raise Unsupported("log file location can not be updated through network protocol")
        for name, value in changes.items():
            if name not in self._settings:
                raise InvalidInput(f"unknown log setting, got {shown(name)}; the settings are {', '.join(WANTED)}")
            if value is not None and not _fits(name, value):
                raise InvalidInput(f"{name}: wrong value, got {shown(value)}; give {WANTED[name]}")
        self._settings |= {name: value for name, value in changes.items() if value is not None}
        self._apply()
        return self.settings()

    def _apply(self) -> None:
        found = self._settings
        # Low enough for what is wanted; what is not wanted in between, the filter takes out.
        wanted = min((level for name, level in LEVELS.items() if found[name]), default=logging.CRITICAL)
        logging.getLogger(LOGGER).setLevel(logging.DEBUG if found["log_verbose_level"] else wanted)
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._passes)
            plain = self._formatters.setdefault(handler, handler.formatter)
            iso = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S%z")
            handler.setFormatter(iso if found["log_format"] == "ISO8601" else plain)

    def _passes(self, record: logging.LogRecord) -> bool:
        if record.levelno <= logging.DEBUG:
            return bool(self._settings["log_verbose_level"])
        name = max((n for n, level in LEVELS.items() if level <= record.levelno), key=LEVELS.__getitem__)
        return bool(self._settings[name])


def _fits(name: str, value: Any) -> bool:
    if name in LEVELS:
        return isinstance(value, bool)
    if name == "log_format":
        return value in FORMATS
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_VERBOSE

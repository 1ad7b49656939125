"""The trace extension of KServe v2: which requests are traced, and their timestamps in Triton's JSON format."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from serving.call import Call
from serving.errors import InvalidInput, Unsupported, shown

log = logging.getLogger(__name__)

LEVELS = ("OFF", "TIMESTAMPS")
DEFAULTS: Mapping[str, Any] = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_mode": "triton",
}
# The least value of each number; trace_count -1 is no limit.
LEAST = {"trace_rate": 1, "trace_count": -1, "log_frequency": 0}


class Tracing:
    """Settings for all models and for each, and the file that traces are written to. For the event loop only.

    ``mark`` is appended to the name of the file, where several processes would write to it.
    """

    def __init__(self, file: str = "", mark: str = "") -> None:
        self._file, self._mark = file, mark
        self._shared = dict(DEFAULTS)
        self._own: dict[str, dict[str, Any]] = {}
        self._requests: Counter[str] = Counter()
        self._on = False
        self._written = 0
        self._begun: set[Path] = set()

    def settings(self, model: str = "") -> dict[str, Any]:
        """The settings of a model, or those of the models that have none of their own."""
        return {**self._shared, "trace_file": self._file, **self._own.get(model, {})}

    def update(self, changes: Mapping[str, Any], model: str = "") -> dict[str, Any]:
        """Change settings, all of them or none; None puts one back. Raises InvalidInput, Unsupported for the file."""
        if "trace_file" in changes:
            raise Unsupported("trace file location can not be updated through network protocol; give --trace-file")
        checked = {name: value if value is None else _checked(name, value) for name, value in changes.items()}
        if checked.get("trace_level") == ["TIMESTAMPS"] and not self._file:
            raise InvalidInput("trace_level: there is no file for traces; start the server with --trace-file FILE")
        target = self._own.setdefault(model, {}) if model else self._shared
        for name, value in checked.items():
            if value is not None:
                target[name] = value
            elif model:
                target.pop(name, None)
            else:
                target[name] = DEFAULTS[name]
        self._on = self._any_on()
        return self.settings(model)

    def state(self) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """The settings of all models and of each, for ``adopt`` in another process."""
        return self._shared, self._own

    def adopt(self, state: tuple[dict[str, Any], dict[str, dict[str, Any]]]) -> None:
        """Have the settings of another process."""
        self._shared, self._own = state
        self._on = self._any_on()

    def _any_on(self) -> bool:
        return any(found.get("trace_level") == ["TIMESTAMPS"] for found in (self._shared, *self._own.values()))

    def request(self, model: str, version: int, identifier: str, begun: int, done: int, call: Call) -> None:
        """Trace a finished request if it is its turn; times in nanoseconds of the monotonic clock.

        Where that cannot be written, tracing ends; the request is answered all the same.
        """
        if not self._on:
            return
        settings = self.settings(model)
        if settings["trace_level"] == ["OFF"] or settings["trace_count"] == "0":
            return
        self._requests[model] += 1
        if self._requests[model] % int(settings["trace_rate"]):
            return
        if settings["trace_count"] != "-1":
            holder = self._own[model] if "trace_count" in self._own.get(model, {}) else self._shared
            holder["trace_count"] = str(int(settings["trace_count"]) - 1)
        number = self._written + 1
        about = {"id": number, "model_name": model, "model_version": version}
        events: list[dict[str, Any]] = [{**about, "request_id": identifier} if identifier else about]
        events += [{"id": number, "timestamps": [{"name": n, "ns": at}]} for n, at in _timestamps(begun, done, call)]
        try:
            self._append(events, int(settings["log_frequency"]))
        except OSError as error:
            log.error("traces cannot be written: %s; trace_level is OFF now", error)
            self._shared["trace_level"] = ["OFF"]
            for own in self._own.values():
                own.pop("trace_level", None)
            self._on = False

    def _append(self, events: Sequence[Mapping[str, Any]], frequency: int) -> None:
        """Add to a JSON array that is whole after every request; with a frequency, a new file every so many.

        A file that another process has left is written anew, as Triton does.
        """
        own = self._file + self._mark
        path = Path(f"{own}.{self._written // frequency}" if frequency else own)
        content = b",".join(map(orjson.dumps, events)) + b"]"
        kept = path in self._begun and path.exists() and path.stat().st_size > 0
        with path.open("r+b" if kept else "wb") as file:
            if kept:
                file.seek(-1, os.SEEK_END)
            file.write((b"," if kept else b"[") + content)
        self._begun.add(path)
        self._written += 1


def _checked(name: str, value: Any) -> Any:
    if name not in DEFAULTS:
        raise InvalidInput(f"unknown trace setting, got {shown(name)}; the settings are {', '.join(DEFAULTS)}")
    if name == "trace_level":
        if not isinstance(value, list) or not value or not all(isinstance(level, str) for level in value):
            raise InvalidInput(f"trace_level: must be a list of {' or '.join(LEVELS)}, got {shown(value)}")
        if value not in (["OFF"], ["TIMESTAMPS"]):
            raise Unsupported(f"trace_level: {shown(value)} is not offered; give one of {', '.join(LEVELS)}")
        return value
    if name == "trace_mode":
        if value != "triton":
            raise Unsupported(f"trace_mode: {shown(value)} is not offered; the only one is 'triton'")
        return value
    try:
        number = int(str(value))
    except (ValueError, RecursionError):
        raise InvalidInput(f"Unable to parse '{name}', got: {shown(value)}; give a whole number as text") from None
    if not LEAST[name] <= number < 2**31:
        raise InvalidInput(f"Unable to parse '{name}'. Expecting value >= {LEAST[name]}, got: {shown(value)}")
    return str(number)


def _timestamps(begun: int, done: int, call: Call) -> list[tuple[str, int]]:
    found = [("REQUEST_START", begun)]
    timing = call.timing
    if timing:
        found += [
            ("QUEUE_START", timing.queued),
            ("COMPUTE_START", timing.begun),
            ("COMPUTE_INPUT_END", timing.stacked),
            ("COMPUTE_OUTPUT_START", timing.inferred),
            ("COMPUTE_END", timing.decoded),
        ]
    return [*found, ("REQUEST_END", done)]

"""Log settings of a client really change what is logged, and how."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from serving.errors import InvalidInput, Unsupported
from serving.gateway.log_settings import LogSettings

NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


class Log:
    """The server's log as its operator sees it."""

    def __init__(self) -> None:
        self.handler = logging.StreamHandler(io.StringIO())
        self.handler.setFormatter(logging.Formatter("%(message)s"))

    def written(self) -> str:
        """What one message of every level, two modules down, comes to."""
        self.handler.setStream(stream := io.StringIO())
        for level, name in NAMES.items():
            logging.getLogger("serving.gateway.x").log(level, name)
        return stream.getvalue()


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """A log at the level ``info``, as a server starts with; nothing of the real one is touched."""
    output = Log()
    logger = logging.getLogger("serving")
    level = logger.level
    monkeypatch.setattr(logging.getLogger(), "handlers", [output.handler])
    logger.setLevel(logging.INFO)
    yield output
    logger.setLevel(level)


def test_nothing_is_changed_before_the_first_update(output: Log) -> None:
    assert LogSettings().settings() == {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "default",
    }
    assert output.written().split() == ["info", "warning", "error"]
    assert output.handler.filters == []


@pytest.mark.parametrize(
    ("changes", "logged"),
    [
        ({"log_verbose_level": 1}, ["debug", "info", "warning", "error"]),
        ({"log_info": False}, ["warning", "error"]),
        ({"log_warning": False}, ["info", "error"]),
        ({"log_error": False}, ["info", "warning"]),
        ({"log_info": False, "log_warning": False, "log_error": False}, []),
        ({"log_info": False, "log_verbose_level": 9}, ["debug", "warning", "error"]),
        ({"log_info": None, "log_file": None}, ["info", "warning", "error"]),
        ({}, ["info", "warning", "error"]),
    ],
)
def test_what_is_logged_is_what_the_settings_say(output: Log, changes: dict[str, Any], logged: list[str]) -> None:
    settings = LogSettings()
    found = settings.update(changes)
    assert output.written().split() == logged
    assert found == settings.settings()
    settings.update({"log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0})
    assert output.written().split() == ["info", "warning", "error"]


@pytest.mark.parametrize(
    ("level", "changes", "logged"),
    [
        (logging.ERROR, {"log_warning": True}, ["warning", "error"]),
        (logging.ERROR, {"log_info": True}, ["info", "error"]),
        (logging.WARNING, {"log_verbose_level": 0}, ["warning", "error"]),
        (logging.DEBUG, {"log_info": True}, ["debug", "info", "warning", "error"]),
        (logging.DEBUG, {"log_verbose_level": 0}, ["info", "warning", "error"]),
    ],
)
def test_server_that_was_started_with_another_level_can_be_changed_too(
    output: Log, level: int, changes: dict[str, Any], logged: list[str]
) -> None:
    logging.getLogger("serving").setLevel(level)
    before = output.written().split()
    settings = LogSettings()
    assert output.written().split() == before
    settings.update(changes)
    assert output.written().split() == logged


def test_format_is_changed_stays_and_is_put_back(output: Log) -> None:
    settings = LogSettings()
    for changes in ({"log_format": "ISO8601"}, {"log_verbose_level": 0}):
        settings.update(changes)
        line = output.written().splitlines()[0]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} INFO serving\.gateway\.x: info", line)
    settings.update({"log_format": "default"})
    assert output.written().splitlines()[0] == "info"


def test_many_updates_leave_one_filter(output: Log) -> None:
    settings = LogSettings()
    for number in range(5):
        settings.update({"log_verbose_level": number})
    assert len(output.handler.filters) == 1


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"log_info": 1}, InvalidInput, "log_info: wrong value, got 1; give true or false"),
        ({"log_error": "true"}, InvalidInput, "log_error"),
        ({"log_verbose_level": -1}, InvalidInput, "a whole number of at least 0"),
        ({"log_verbose_level": True}, InvalidInput, "log_verbose_level"),
        ({"log_verbose_level": 1.0}, InvalidInput, "log_verbose_level"),
        ({"log_verbose_level": 2**32}, InvalidInput, "log_verbose_level"),
        ({"log_format": "nope"}, InvalidInput, "default or ISO8601"),
        ({"log_format": ["default"]}, InvalidInput, "log_format"),
        ({"log_infos": True}, InvalidInput, "unknown log setting, got 'log_infos'"),
        ({"log_file": "/tmp/x"}, Unsupported, "log file location can not be updated"),
        ({"log_file": ""}, Unsupported, "log file location can not be updated"),
    ],
)
def test_wrong_setting_is_refused_and_none_of_the_others_is_changed(
    output: Log, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    settings = LogSettings()
    before = settings.settings()
    with pytest.raises(error, match=said):
        settings.update({"log_warning": False, **changes})
    assert settings.settings() == before
    assert output.written().split() == ["info", "warning", "error"]

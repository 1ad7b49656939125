"""Every error has a name on both wires, and nobody hears more of an unexpected one than its id."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from serving.errors import DownstreamError, InvalidInput, Overloaded
from serving.gateway.grpc_v2 import CODES
from serving.gateway.http_errors import STATUS, BodyTooLarge, described


def subclasses(kind: type[DownstreamError]) -> Iterator[type[DownstreamError]]:
    for child in kind.__subclasses__():
        # The other stages have errors of their own, which no wire ever sees.
        if child.__module__.startswith("serving."):
            yield child
        yield from subclasses(child)


@pytest.mark.parametrize("kind", list(subclasses(DownstreamError)), ids=lambda kind: kind.__name__)
def test_every_error_has_a_name_on_both_wires(kind: type[DownstreamError]) -> None:
    assert any(issubclass(kind, known) for known in STATUS)
    assert any(issubclass(kind, known) for known in CODES)
    status, text, _ = described(kind("what happened"))
    assert 400 <= status < 600
    assert status != 500
    assert text == "what happened"


@pytest.mark.parametrize("kind", sorted(STATUS, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_both_wires_agree_on_whose_fault_it_is(kind: type[DownstreamError]) -> None:
    callers = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS}
    assert (STATUS[kind] < 500) == (CODES[kind] in callers)


def test_body_over_the_limit_has_its_own_status() -> None:
    assert described(BodyTooLarge("too large"))[:2] == (413, "too large")


@pytest.mark.parametrize(("seconds", "header"), [(0.01, "1"), (2.4, "2"), (90.0, "90")])
def test_overload_says_in_whole_seconds_when_to_come_back(seconds: float, header: str) -> None:
    assert described(Overloaded("full", retry_after=seconds)) == (503, "full", {"retry-after": header})
    assert described(InvalidInput("wrong"))[2] == {}


def test_unexpected_error_leaves_the_server_as_an_id_that_the_log_explains(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise KeyError("the password")
    except KeyError as error:
        status, text, _ = described(error)
    assert status == 500
    assert "password" not in text
    identifier = text.split("id ")[1].split(";")[0]
    assert identifier in caplog.text
    assert "the password" in caplog.text
    assert "Traceback" in caplog.text

"""What can go wrong between a request and its answer: one tree, no wire codes.

Each gateway holds one table from these classes to what its protocol calls them.
"""

from __future__ import annotations

import logging
import reprlib
import uuid
from collections.abc import Sequence

log = logging.getLogger(__name__)

LONGEST_VALUE = 80


class DownstreamError(Exception):
    """The root of every error this project raises on purpose; its text is meant for the user."""


class InvalidInput(DownstreamError):
    """A request or a row is wrong, and sending it again unchanged cannot help."""


class NotFound(DownstreamError):
    """The model, version or route that was asked for does not exist."""


class AlreadyExists(DownstreamError):
    """What was to be made is there already."""


class NotReady(DownstreamError):
    """The model exists but cannot answer now: loading, quarantined, or the server is stopping."""


class Overloaded(DownstreamError):
    """The queue is full, or the answer is predicted to come after the deadline.

    ``retry_after`` is in seconds.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DeadlineExceeded(DownstreamError):
    """The caller's deadline passed before the row was run; the row was not computed."""


class Unsupported(DownstreamError):
    """The protocol knows this feature; this server does not offer it."""


class BundleError(DownstreamError):
    """A bundle is incomplete, damaged, or does not reproduce its golden answers."""


class _Brief(reprlib.Repr):
    """repr that neither walks a large value nor fails on one that is nested deeper than Python can recurse."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 40
        self.maxstring = self.maxlong = self.maxother = 4 * LONGEST_VALUE


def shown(value: object) -> str:
    """The value as Python writes it, cut to 80 characters; values of callers may be large, and nested very deep."""
    text = _Brief().repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def fault(field: str, problem: str, value: object, remedy: str) -> str:
    """One line that names the field, the value and the remedy."""
    return f"{field}: {problem}, got {shown(value)}; {remedy}"


def listed(faults: Sequence[str]) -> str:
    """Several faults as one message, so that they are mended in one go."""
    if len(faults) == 1:
        return faults[0]
    return f"{len(faults)} faults:\n" + "\n".join(f"  - {line}" for line in faults)


def unexpected(error: BaseException) -> str:
    """Log an error nobody expected with an id, and give the text that may leave the server."""
    number = uuid.uuid4().hex[:12]
    log.error("internal error %s", number, exc_info=error)
    return f"internal error, id {number}; the server's log has the details"

"""What errors are called over HTTP: one table, and ``{"error": "..."}`` for every one of them."""

from __future__ import annotations

from serving import errors
from serving.errors import unexpected

STATUS: dict[type[errors.DownstreamError], int] = {
    errors.InvalidInput: 400,
    errors.BundleError: 400,
    errors.NotFound: 404,
    errors.AlreadyExists: 400,
    errors.NotReady: 503,
    errors.Overloaded: 503,
    errors.DeadlineExceeded: 504,
    errors.Unsupported: 501,
}


class BodyTooLarge(errors.InvalidInput):
    """The request body is over the limit; what HTTP calls it, only HTTP needs to know."""


def described(error: BaseException) -> tuple[int, str, dict[str, str]]:
    """Status, text and extra headers of an error; one that nobody expected is logged and told by its id only."""
    if isinstance(error, BodyTooLarge):
        return 413, str(error), {}
    for kind, status in STATUS.items():
        if isinstance(error, kind):
            retry = isinstance(error, errors.Overloaded)
            headers = {"retry-after": str(max(1, round(error.retry_after)))} if retry else {}  # type: ignore[attr-defined]
            return status, str(error), headers
    return 500, unexpected(error), {}

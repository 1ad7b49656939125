"""The HTTP server that answers for an ASGI application: uvicorn, as one of the two servers of a process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers of its own: what a signal means is decided once, for both protocols."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(app: Any, drain_timeout: float) -> uvicorn.Server:
    """A server that is not listening yet; requests in flight are given ``drain_timeout`` seconds at its end."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        # Nothing here asks who the caller is.
        proxy_headers=False,
        # Above the idle time of usual proxies: they must be the ones to close.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=round(drain_timeout),
    )
    return _Uvicorn(config)

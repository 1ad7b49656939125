"""A server under test over HTTP with JSON tensors.

Source: Open Inference Protocol, HTTP/REST (kserve.github.io/website/docs/concepts/architecture/data-plane).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp

from loadtest.target import PATIENCE, CannotStart, Column, Failure, Row, Tensor, not_ready

# uvicorn closes a connection that was idle for 5 seconds; one that is dropped earlier here can't be met half closed.
IDLE = 4.0
# A server may ask to come again later: the request itself is in order.
LATER = {408, 425, 429}


class HttpTarget:
    """A server at ``http://host:port``; ``timeout`` is in seconds for each request. Make it inside the event loop."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = url
        self._timeout = timeout
        self._session = aiohttp.ClientSession(
            # As many connections as there are requests under way: a limit would queue them here, unseen.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Content-Type": "application/json"},
        )

    async def reach(self) -> None:
        """Raises CannotStart where no v2 server answers at the URL."""
        status, _ = await self._ask("GET", "/v2/health/ready")
        if status == 404:
            raise CannotStart(f"{self._url} answers, but not as a KServe v2 server: no /v2/health/ready; check the URL")

    async def models(self) -> Mapping[str, str]:
        """``name -> why it is not ready``, empty text for a ready one; nothing where the server has no index."""
        status, index = await self._ask("POST", "/v2/repository/index", b"{}")
        if status != 200 or not isinstance(index, list):
            return {}
        return not_ready([(str(one["name"]), one.get("state") or "", one.get("reason") or "") for one in index])

    async def columns(self, model: str) -> tuple[Column, ...]:
        """The inputs of the model. Raises CannotStart where the server does not know it."""
        status, metadata = await self._ask("GET", f"/v2/models/{quote(model, safe='')}")
        if status != 200 or not isinstance(metadata, dict):
            raise CannotStart(f"the server gives no metadata of model {model!r}: HTTP {status}: {_said(metadata)}")
        inputs = metadata.get("inputs", [])
        return tuple(Column(str(one["name"]), str(one["datatype"]), tuple(one["shape"])) for one in inputs)

    async def example(self, model: str) -> Row | None:
        """The row that our gateway offers as an example; other servers offer none."""
        status, about = await self._ask("GET", f"/v1/models/{quote(model, safe='')}")
        row = about.get("example") if status == 200 and isinstance(about, dict) else None
        return row if isinstance(row, dict) else None

    def encode(self, model: str, tensors: Sequence[Tensor]) -> bytes:
        """One request as it goes over the wire, with the deadline that Triton and our gateway honour."""
        inputs = [
            {"name": one.name, "datatype": one.dtype, "shape": one.array.shape, "data": one.array.ravel().tolist()}
            for one in tensors
        ]
        parameters = {"timeout": round(self._timeout * 1e6)}
        return json.dumps({"parameters": parameters, "inputs": inputs}).encode()

    async def infer(self, model: str, request: bytes) -> Failure | None:
        """Send one request and wait for its whole answer; None is a good answer."""
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._session.post(f"{self._url}/v2/models/{quote(model, safe='')}/infer", data=request) as response,
            ):
                body = await response.read()
        except TimeoutError:
            return Failure("timeout", f"no answer within {self._timeout:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Failure("connection", f"{type(error).__name__}: {error}")
        if response.status == 200:
            return None
        refused = 400 <= response.status < 500 and response.status not in LATER
        return Failure(f"HTTP {response.status}", _said(_parsed(body)), refused)

    async def close(self) -> None:
        """Drop all connections."""
        await self._session.close()

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        try:
            async with (
                asyncio.timeout(PATIENCE),
                self._session.request(method, self._url + path, data=body) as response,
            ):
                return response.status, _parsed(await response.read())
        except TimeoutError:
            raise CannotStart(f"{self._url} gave no answer to {path} within {PATIENCE:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise CannotStart(
                f"{self._url} cannot be reached ({error or type(error).__name__}); "
                "check that the server runs, its host and port, and that the port speaks HTTP (else use grpc://)"
            ) from error


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _said(answer: Any) -> str:
    """The ``error`` of a v2 answer, or the beginning of whatever came instead."""
    said = answer.get("error", answer) if isinstance(answer, dict) else answer
    return str(said)[:500] or "(empty answer)"

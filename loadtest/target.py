"""What a load test needs of a server, whichever wire it speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from serving.errors import DownstreamError

Row = Mapping[str, Any]

PATIENCE = 10.0
"""Seconds to wait for an answer to a question that is not part of the load."""


class CannotStart(DownstreamError):
    """The test can't begin: no server, no such model, no rows to send; its text says what to check."""


@dataclass(frozen=True)
class Failure:
    """A request without a good answer: the kind that it is counted under, and what the server said.

    ``refused`` means that the request itself is wrong, so that sending more of them measures nothing.
    """

    kind: str
    message: str
    refused: bool = False


@dataclass(frozen=True)
class Column:
    """One input of a model as its v2 metadata names it; ``shape`` has the batch axis first, -1 for any size."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """One input of one request: ``array`` has shape ``(rows, ...)``; BYTES are ``object`` arrays of ``str``."""

    name: str
    dtype: str
    array: NDArray[Any]


class Target(Protocol):
    """A server under test. ``infer`` never raises for what the server or the network does; the others may."""

    async def reach(self) -> None:
        """Raises CannotStart where no v2 server answers at the URL."""

    async def models(self) -> Mapping[str, str]:
        """``name -> why it is not ready``, empty text for a ready one; nothing where the server has no index."""

    async def columns(self, model: str) -> tuple[Column, ...]:
        """The inputs of the model. Raises CannotStart where the server does not know it."""

    async def example(self, model: str) -> Row | None:
        """The row that the server offers as an example, if it does."""

    def encode(self, model: str, tensors: Sequence[Tensor]) -> bytes:
        """One request as it goes over the wire."""

    async def infer(self, model: str, request: bytes) -> Failure | None:
        """Send one request and wait for its whole answer; None is a good answer."""

    async def close(self) -> None:
        """Drop all connections."""


async def choose_model(target: Target, wanted: str | None) -> str:
    """The model to ask: ``wanted``, or else the only one that is ready. Raises CannotStart."""
    known = await target.models()
    ready = [name for name, reason in known.items() if not reason]
    if wanted is not None:
        if known and wanted not in known:
            raise CannotStart(f"unknown model {wanted!r}; the server has {_names(list(known))}")
        if reason := known.get(wanted, ""):
            raise CannotStart(f"model {wanted!r} is not ready: {reason}; ready are {_names(ready)}")
        return wanted
    if len(ready) == 1:
        return ready[0]
    if ready:
        raise CannotStart(f"the server has several ready models; choose one with --model: {_names(ready)}")
    if known:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in known.items())
        raise CannotStart(f"no model is ready; look at the log of the server ({reasons})")
    raise CannotStart("the server lists no models; say which to ask with --model")


def not_ready(index: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """A v2 repository index of ``(name, state, reason)`` as ``name -> why it is not ready``.

    A model with several versions is there once, and ready if one of them is.
    """
    found: dict[str, str] = {}
    for name, state, reason in index:
        if state == "READY":
            found[name] = ""
        elif found.get(name) != "":
            found[name] = ": ".join(part for part in (state or "not loaded", reason) if part)
    return found


def _names(models: Sequence[str]) -> str:
    return ", ".join(sorted(models)) or "none"

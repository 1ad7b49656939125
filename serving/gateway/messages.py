"""Requests and responses of KServe v2 as both wires understand them, and the parameters that mean something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.codec import Tensor
from serving.errors import InvalidInput, shown
from serving.manifest import MODEL_DIGEST

MICROSECONDS = 1e-6
RESERVED = "triton_"
SCALARS = (str, int, float, bool)


@dataclass(frozen=True)
class Placement:
    """Where the bytes of a tensor lie in a registered shared memory region; ``offset`` and ``size`` in bytes."""

    region: str
    size: int
    offset: int = 0


@dataclass(frozen=True)
class Output:
    """An output that a request asks for: its ``classes`` best as text, if not 0; its bytes in shared memory, if told.

    ``binary`` is for HTTP, where data is JSON or raw bytes.
    """

    name: str
    classes: int = 0
    placement: Placement | None = None
    binary: bool = False


@dataclass(frozen=True)
class InferRequest:
    """One inference request; no ``outputs`` means all of them, in binary or not as ``binary`` says.

    ``timeout`` is in seconds until the caller leaves, ``wait`` in seconds that a row may be queued; ``priority`` 0 is
    the model's default. ``digest`` asks for that of the version that answers. ``raw``, instead of ``inputs``, is the
    data of the one input that a model asks for.
    """

    model: str
    version: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Output] = ()
    id: str = ""
    timeout: float | None = None
    wait: float | None = None
    priority: int = 0
    digest: bool = False
    binary: bool = False
    raw: bytes | None = None


@dataclass(frozen=True)
class Answered:
    """One output of a response: the tensor, and how the caller wants its bytes."""

    tensor: Tensor
    asked: Output


@dataclass(frozen=True)
class InferResponse:
    """The answer to one inference request."""

    model: str
    version: str
    id: str
    outputs: Sequence[Answered] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """The ``timeout`` parameter, in seconds. Raises InvalidInput when it is no positive number of microseconds."""
    value = parameters.get("timeout")
    if value is None or value == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInput(f"parameter 'timeout' must be a positive number of microseconds, got {shown(value)}")
    return value * MICROSECONDS


def priority_of(parameters: Mapping[str, Any]) -> int:
    """The ``priority`` parameter: 1 is the most urgent, 0 the model's default. Raises InvalidInput."""
    value = parameters.get("priority", 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidInput(f"parameter 'priority' must be a non-negative integer, got {shown(value)}")
    return value


def digest_of(parameters: Mapping[str, Any]) -> bool:
    """The ``model_digest`` parameter: whether the answer is to tell which version gave it. Raises InvalidInput."""
    return flag_of(parameters, MODEL_DIGEST, False)


def check_reserved(parameters: Mapping[str, Any]) -> None:
    """Raise InvalidInput for a parameter of a request whose name is kept for the protocol."""
    for name in parameters:
        if name.startswith(RESERVED):
            raise InvalidInput(f"parameter keys starting with 'triton_' are reserved for Triton usage, got '{name}'")


def check_values(parameters: Mapping[str, Any], hint: str = "") -> None:
    """Raise InvalidInput for a parameter of a request whose value is no single one; ``hint`` is added to the text."""
    for name, value in parameters.items():
        if not isinstance(value, SCALARS):
            raise InvalidInput(
                f"parameter '{name}' has invalid type. It should be either 'int', 'bool', or 'string', "
                f"got {shown(value)}{hint}"
            )


def flag_of(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    """A parameter that is true or false. Raises InvalidInput."""
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInput(f"parameter '{name}' must be true or false, got {shown(value)}")
    return value


def output_of(name: str, parameters: Mapping[str, Any]) -> Output:
    """A requested output by its parameters. Raises InvalidInput.

    It is binary only where it says so itself: ``binary_data_output`` of a request is for outputs that nobody names.
    """
    classes = parameters.get("classification", 0)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
        raise InvalidInput(f"output '{name}': classification must be a number of classes, got {shown(classes)}")
    binary = flag_of(parameters, "binary_data", False)
    placement = placement_of(name, parameters)
    if placement and (classes or binary):
        other = "classification" if classes else "binary_data"
        raise InvalidInput(f"Output can't set both 'shared_memory_region' and '{other}', got both for '{name}'")
    return Output(name, classes, placement, binary)


def placement_of(name: str, parameters: Mapping[str, Any]) -> Placement | None:
    """Where a tensor lies in shared memory, if its parameters say so. Raises InvalidInput."""
    region = parameters.get("shared_memory_region")
    if region is None:
        return None
    size, offset = parameters.get("shared_memory_byte_size"), parameters.get("shared_memory_offset", 0)
    numbers = all(isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in (size, offset))
    if not isinstance(region, str) or not numbers:
        raise InvalidInput(
            f"'{name}': a shared memory tensor needs shared_memory_region (text) and shared_memory_byte_size, and may "
            f"have shared_memory_offset (bytes), got {shown(region)}, {shown(size)} and {shown(offset)}"
        )
    assert isinstance(size, int)
    return Placement(region, size, offset)

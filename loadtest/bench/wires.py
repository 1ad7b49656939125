"""How one text is asked for over each wire, as bytes that are ready before the run."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Encoded = tuple[dict[str, str], bytes]
JSON = {"Content-Type": "application/json"}


def v2_json(text: str) -> Encoded:
    """A v2 request as JSON (Open Inference Protocol)."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
    return JSON, json.dumps({"inputs": [tensor]}).encode()


def v2_binary(text: str) -> Encoded:
    """A v2 request with its tensor after the JSON (Triton's binary tensor data extension)."""
    raw = text.encode()
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "parameters": {"binary_data_size": len(raw) + 4}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return headers, head + struct.pack("<I", len(raw)) + raw


def v2_string(text: str) -> Encoded:
    """A v2 request as MLServer wants text: a tensor of one axis, with its content type."""
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}
    return JSON, json.dumps({"inputs": [tensor | {"parameters": {"content_type": "str"}}]}).encode()


def one_text(text: str) -> Encoded:
    """``{"text": ...}``, as the examples of most frameworks have it."""
    return JSON, json.dumps({"text": text}).encode()


def text_list(text: str) -> Encoded:
    """``{"texts": [...]}`` of one text: BentoML batches what is a list."""
    return JSON, json.dumps({"texts": [text]}).encode()


@dataclass(frozen=True)
class Wire:
    """One way to ask one system: a row of the tables.

    ``encode`` is None for gRPC. ``v2`` holds the options of perf_analyzer where the server speaks v2 completely;
    else open loops come from our own generator.
    """

    row: str
    path: str = ""
    encode: Callable[[str], Encoded] | None = None
    v2: Sequence[str] = ()
    model: str = ""

    def requests(self, host: str, texts: Sequence[str]) -> list[bytes]:
        """Whole HTTP/1.1 requests. Raises ValueError for a wire that is not HTTP."""
        return [_raw(host, self.path, headers, body) for headers, body in self.bodies(texts)]

    def bodies(self, texts: Sequence[str]) -> list[Encoded]:
        """Headers and bodies. Raises ValueError for a wire that is not HTTP."""
        if self.encode is None:
            raise ValueError(f"{self.row} is not HTTP")
        return [self.encode(text) for text in texts]


def _raw(host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def label_of(headers: Mapping[str, str], body: bytes) -> str:
    """The label in an answer of any of the wires. Raises ValueError where there is none."""
    names = {name.lower(): value for name, value in headers.items()}
    length = int(names.get("inference-header-content-length", len(body)))
    answer = json.loads(body[:length])
    answer = answer[0] if isinstance(answer, list) else answer
    if "label" in answer:
        return str(answer["label"])
    after = length
    for tensor in answer.get("outputs", []):
        size = tensor.get("parameters", {}).get("binary_data_size", 0)
        if tensor["name"] == "label":
            raw = body[after + 4 : after + size].decode()
            return raw if size else str(np.ravel(tensor["data"])[0])
        after += size
    raise ValueError(f"no label in {body[:200]!r}")

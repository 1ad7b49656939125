"""Fuzz target: bytes of a request, however broken, are either a request that comes back as it went, or refused.

``make fuzz`` runs it under atheris, guided by coverage. The first byte of an input chooses the door: an infer body over
HTTP, as it is or compressed, the contents of a gRPC request, or one raw tensor.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable

from tritonclient.grpc import service_pb2 as pb

from serving import codec
from serving.errors import InvalidInput, NotFound, Unsupported
from serving.gateway import compression, grpc_messages, http_messages
from serving.gateway.messages import InferRequest
from serving.gateway.shared_memory import Regions
from serving.tensors import NUMPY_TYPES

LIMIT = 2**20
REFUSALS = (InvalidInput, NotFound, Unsupported)
LENGTH = struct.Struct("<H")


def over_http(data: bytes) -> InferRequest:
    """Two bytes of a JSON length, 0xFFFF for none, then the body."""
    (length,) = LENGTH.unpack(data[:2].ljust(2, b"\0"))
    headers = {} if length == 0xFFFF else {http_messages.JSON_LENGTH: str(length).encode()}
    return http_messages.parse_infer("m", "", headers, data[2:], Regions(allowed=False, largest=LIMIT))


def compressed(data: bytes) -> InferRequest:
    """The same, of a body that says it is compressed."""
    encoding = ("gzip", "deflate")[data[:1] > b"\x7f"]
    return over_http(compression.decompressed(data[1:], encoding, LIMIT))


def over_grpc(data: bytes) -> InferRequest:
    """A ModelInferRequest as it comes from the wire."""
    message = pb.ModelInferRequest()
    try:
        message.ParseFromString(data)
    except Exception as error:  # gRPC itself refuses what is no message
        raise InvalidInput(str(error)) from None
    return grpc_messages.parse_infer(message, None, Regions(allowed=False, largest=LIMIT))


def raw_tensor(data: bytes) -> InferRequest:
    """One tensor: a byte for its datatype, one for the number of its axes, one for each axis, then its data."""
    head, rest = data[:2].ljust(2, b"\0"), data[2:]
    datatype = sorted(NUMPY_TYPES)[head[0] % len(NUMPY_TYPES)]
    axes = head[1] % 5
    return InferRequest("m", "", [codec.from_raw("x", datatype, list(rest[:axes]), rest[axes:])])


DOORS: tuple[Callable[[bytes], InferRequest], ...] = (over_http, compressed, over_grpc, raw_tensor)


def target(data: bytes) -> bool:
    """Decode one input; whether it was a request. Anything but a refusal, or a change on the way, is a finding."""
    if not data:
        return False
    try:
        request = DOORS[data[0] % len(DOORS)](data[1:])
    except REFUSALS:
        return False
    for tensor in request.inputs:
        raw = codec.to_raw(tensor)
        again = codec.from_raw(tensor.name, tensor.datatype, tensor.array.shape, raw)
        assert codec.to_raw(again) == raw, (tensor, again)
        assert again.array.shape == tensor.array.shape
    return True


def corpus() -> list[bytes]:
    """Requests that are good, one through every door and of every kind, for mutations to begin with."""
    texts = b"\x05\x00\x00\x00hello\x00\x00\x00\x00"
    ids = struct.pack("<4q", 1, 40, 41, 2)
    tensors = [
        {"name": "text", "datatype": "BYTES", "shape": [2, 1], "parameters": {"binary_data_size": len(texts)}},
        {"name": "input_ids", "datatype": "INT64", "shape": [1, 4], "parameters": {"binary_data_size": len(ids)}},
        {"name": "flags", "datatype": "BOOL", "shape": [2], "data": [True, False]},
    ]
    outputs = [{"name": "logits", "parameters": {"binary_data": True, "classification": 2}}]
    head = json.dumps({"id": "7", "inputs": tensors, "outputs": outputs, "parameters": {"timeout": 5}}).encode()
    body = LENGTH.pack(len(head)) + head + texts + ids
    plain = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2.5]}]}).encode()
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[texts, ids])
    message.inputs.add(name="text", datatype="BYTES", shape=[2, 1])
    message.inputs.add(name="input_ids", datatype="INT64", shape=[1, 4])
    message.parameters["priority"].uint64_param = 1
    typed = pb.ModelInferRequest(model_name="m")
    typed.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a")
    kinds = [bytes([3, index, 1, 2]) + bytes(16) for index in range(len(NUMPY_TYPES))]
    return [
        b"\0" + body,
        b"\0" + LENGTH.pack(0) + b"hello",
        b"\0" + LENGTH.pack(0xFFFF) + plain,
        b"\1\0" + gzip.compress(body, mtime=0),
        b"\1\xff" + zlib.compress(LENGTH.pack(0xFFFF) + plain),
        b"\2" + message.SerializeToString(deterministic=True),
        b"\2" + typed.SerializeToString(deterministic=True),
        *kinds,
    ]

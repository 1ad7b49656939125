"""Requests are whole, and the label is found in the answers of every wire."""

from __future__ import annotations

import json
import struct

import pytest

from loadtest.bench import systems, wires
from loadtest.bench.wires import Wire, label_of


def test_a_request_is_whole_http_and_its_length_is_of_bytes() -> None:
    (raw,) = Wire("gateway", "/v2/models/m/infer", wires.v2_json).requests("127.0.0.1:80", ["Grüße"])
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: 127.0.0.1:80\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["inputs"][0]["data"] == ["Grüße"]


def test_a_binary_request_says_where_its_json_ends() -> None:
    headers, body = wires.v2_binary("Grüße")
    length = int(headers["Inference-Header-Content-Length"])
    size = json.loads(body[:length])["inputs"][0]["parameters"]["binary_data_size"]
    raw = body[length : length + size]
    assert struct.unpack("<I", raw[:4])[0] == len(raw) - 4
    assert raw[4:].decode() == "Grüße"


def v2(*outputs: dict[str, object]) -> bytes:
    return json.dumps({"outputs": outputs}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b'{"label": "refund", "logits": [1, 2]}',
        b'[{"label": "refund", "logits": [1, 2]}]',
        v2({"name": "logits", "data": [1.0]}, {"name": "label", "data": [["refund"]]}),
    ],
)
def test_the_label_of_a_json_answer(body: bytes) -> None:
    assert label_of({}, body) == "refund"


def test_the_label_of_a_binary_answer() -> None:
    outputs = [{"name": name, "parameters": {"binary_data_size": size}} for name, size in (("score", 4), ("label", 10))]
    head = v2(*outputs)
    body = head + b"\0\0\0\0" + struct.pack("<I", 6) + b"refund"
    assert label_of({"Inference-Header-Content-Length": str(len(head))}, body) == "refund"


def test_an_answer_without_a_label_is_refused() -> None:
    with pytest.raises(ValueError, match="no label"):
        label_of({}, b'{"error": "busy"}')


def test_every_system_states_its_settings_and_every_row_is_there_once() -> None:
    every = systems.every("m")
    assert all(len(system.settings(2)) > 40 for system in every)
    rows = [wire.row for system in every for wire in system.wires]
    assert len(rows) == len(set(rows))
    assert set(systems.batching_rows(every)) < set(rows)

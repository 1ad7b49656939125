"""HTTP beyond what the client libraries send: routes, methods, bodies, encodings."""

from __future__ import annotations

import gzip
import http.client
import json
import zlib
from collections.abc import Mapping
from typing import Any

import pytest

from tests.conformance.conftest import Server
from tests.conformance.models import expected
from tests.serving.held_backend import PATIENCE

INFER = "/v2/models/intent/infer"
BODY = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["hello"]}]}).encode()


def asked(
    server: Server, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    """Status, headers and body of any request."""
    connection = http.client.HTTPConnection(server.http, timeout=PATIENCE)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/v2/models/intent/versions/x", 404),
        ("POST", "/v2/models/intent/versions/x/infer", 404),
        ("POST", "/v2/health/live", 405),
        ("GET", INFER, 405),
        ("PUT", INFER, 405),
        ("GET", "/v2/repository/index", 405),
        ("DELETE", "/v2/models/intent", 405),
    ],
)
def test_wrong_route_or_method_is_told_in_the_one_form(server: Server, method: str, path: str, status: int) -> None:
    found, _, body = asked(server, method, path)
    assert found == status
    assert list(json.loads(body)) == ["error"]


@pytest.mark.parametrize("path", ["/v2", "/v2/models/intent", "/v2/models/stats", "/v2/models/intent/config"])
def test_query_is_ignored(server: Server, path: str) -> None:
    status, _, body = asked(server, "GET", f"{path}?x=1")
    assert status == 200
    assert isinstance(json.loads(body), dict)


def test_version_in_the_query_is_no_version(server: Server) -> None:
    _, _, body = asked(server, "GET", "/v2/models/topic?version=1")
    assert json.loads(body)["versions"] == ["1", "3"]


@pytest.mark.parametrize("kind", [None, "text/html", "application/octet-stream"])
def test_content_type_of_a_request_does_not_matter(server: Server, kind: str | None) -> None:
    status, headers, body = asked(server, "POST", INFER, BODY, {"content-type": kind} if kind else {})
    assert (status, headers["content-type"]) == (200, "application/json")
    assert list(json.loads(body)) == ["model_name", "model_version", "outputs"]


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_are_compressed_both_ways(server: Server, encoding: str, encode: Any) -> None:
    headers = {"content-encoding": encoding, "accept-encoding": encoding}
    status, found, body = asked(server, "POST", INFER, encode(BODY), headers)
    assert (status, found["content-encoding"]) == (200, encoding)
    answer = json.loads(zlib.decompress(body, 47))
    assert answer["outputs"][0]["data"] == [expected(server.folder, "intent", {"text": "hello"})["label"]]


def test_encoding_that_is_not_known_is_refused(server: Server) -> None:
    status, _, body = asked(server, "POST", INFER, BODY, {"content-encoding": "br"})
    assert status == 501
    assert list(json.loads(body)) == ["error"]


@pytest.mark.parametrize("accepted", ["br", "identity", "gzip;q=0", "*", ""])
def test_answer_stays_as_it_is_where_no_encoding_is_accepted(server: Server, accepted: str) -> None:
    status, headers, body = asked(server, "POST", INFER, BODY, {"accept-encoding": accepted})
    assert (status, headers.get("content-encoding")) == (200, None)
    assert json.loads(body)["model_name"] == "intent"


def test_output_that_is_named_is_binary_only_if_it_says_so(server: Server) -> None:
    message = json.loads(BODY)
    message["outputs"] = [{"name": "label"}, {"name": "score", "parameters": {"binary_data": True}}]
    status, headers, body = asked(server, "POST", INFER, json.dumps(message).encode())
    assert (status, headers["content-type"]) == (200, "application/octet-stream")
    length = int(headers["inference-header-content-length"])
    label, score = json.loads(body[:length])["outputs"]
    assert "data" in label
    assert score["parameters"] == {"binary_data_size": 4}
    assert len(body) == length + 4


@pytest.mark.parametrize("named", [True, False])
def test_binary_output_of_a_request_is_for_outputs_that_are_not_named(server: Server, named: bool) -> None:
    message = {**json.loads(BODY), "parameters": {"binary_data_output": True}}
    if named:
        message["outputs"] = [{"name": "label"}]
    _, headers, _ = asked(server, "POST", INFER, json.dumps(message).encode())
    assert headers["content-type"] == ("application/json" if named else "application/octet-stream")


def test_raw_body_is_the_text_itself(server: Server) -> None:
    status, headers, body = asked(server, "POST", INFER, b"hello", {"inference-header-content-length": "0"})
    if server.is_triton:
        # It counts the inputs of the configuration, of which each may be left out.
        assert status == 400
        assert b"Raw request must only have 1 input" in body
        return
    assert status == 200
    length = int(headers["inference-header-content-length"])
    answer = json.loads(body[:length])["outputs"]
    label = expected(server.folder, "intent", {"text": "hello"})["label"]
    assert body[length + 4 : length + answer[0]["parameters"]["binary_data_size"]].decode() == label

"""gzip and deflate both ways: bombs, cut and damaged bodies, what a client accepts, and bodies that do not shrink."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serving.errors import InvalidInput, Unsupported
from serving.gateway.compression import LEAST, accepted, compressed, decompressed
from serving.gateway.http_errors import BodyTooLarge
from serving.gateway.http_messages import JSON_LENGTH

INFER = "/v2/models/intent/infer"
PREDICT = "/v1/models/intent:predict"
LIMIT = 2**20  # of the application under test
ENCODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
DECODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.fixture(params=ENCODERS)
def encoding(request: pytest.FixtureRequest) -> str:
    """Each encoding in turn."""
    return str(request.param)


def test_body_comes_back_as_it_went(encoding: str) -> None:
    for body in (b"", b"a", bytes(range(256)) * 100):
        assert decompressed(ENCODERS[encoding](body), encoding, 10**6) == body
    assert decompressed(b"as it is", "identity", 10**6) == b"as it is"


def test_either_format_is_taken_under_either_name_as_triton_does() -> None:
    assert decompressed(gzip.compress(b"a"), "deflate", 9) == b"a"
    assert decompressed(zlib.compress(b"a"), "gzip", 9) == b"a"


def test_limit_is_that_of_the_decompressed_body(encoding: str) -> None:
    assert decompressed(ENCODERS[encoding](b"x" * 1000), encoding, 1000) == b"x" * 1000
    with pytest.raises(BodyTooLarge, match="decompressed request body is over the limit of 999 bytes"):
        decompressed(ENCODERS[encoding](b"x" * 1000), encoding, 999)


def test_bomb_is_refused_after_the_limit_and_never_held_whole(encoding: str) -> None:
    bomb = ENCODERS[encoding](bytes(2**24))
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            decompressed(bomb, encoding, 2**10)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda body: body[:-1], "ends early"),
        (lambda body: body[:5], "ends early"),
        (lambda body: b"", "ends early"),
        (lambda body: body + b"x", "followed by other data"),
        (lambda body: body + body, "followed by other data"),
        (lambda body: b"x" + body, "the request body is not"),
        (lambda body: body[:-8] + b"\0" * 8, "the request body is not"),
        (lambda body: b"plain text", "the request body is not"),
    ],
    ids=["one byte less", "head only", "nothing", "one byte more", "twice", "shifted", "checksum", "plain"],
)
def test_body_that_is_damaged_is_refused(encoding: str, spoil: Callable[[bytes], bytes], said: str) -> None:
    with pytest.raises(InvalidInput, match=said) as caught:
        decompressed(spoil(ENCODERS[encoding](bytes(range(200)))), encoding, 10**6)
    assert encoding in str(caught.value)
    assert not isinstance(caught.value, BodyTooLarge)


def test_deflate_without_its_header_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not deflate"):
        decompressed(zlib.compress(b"hello" * 50)[2:-4], "deflate", 10**6)


@pytest.mark.parametrize("name", ["br", "GZIP", "x-gzip", "gzip, gzip", "", "compress", "gzip "])
def test_other_encodings_are_not_offered(name: str) -> None:
    with pytest.raises(Unsupported, match="send gzip, deflate or the body as it is"):
        decompressed(b"", name, 10)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_decompressed_or_refused(body: bytes, encoding: str) -> None:
    with suppress(InvalidInput):
        assert len(decompressed(body, encoding, 100)) <= 100


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "deflate"),
        ("gzip;q=0.5, deflate;q=0.9", "deflate"),
        (" gzip ; q=0.5 ,deflate ; q=0.4", "gzip"),
        ("gzip;q=0", ""),
        ("gzip;q=0.0, deflate", "deflate"),
        ("br, gzip", "gzip"),
        ("br", ""),
        ("*", ""),
        ("GZIP", ""),
        ("identity", ""),
        ("gzip;q=nonsense", ""),
        ("gzip;q=nan", ""),
        ("gzip;level=9", "gzip"),
        (",,;;=,", ""),
    ],
)
def test_encoding_of_the_answer_is_the_one_that_the_client_likes_best(header: str, chosen: str) -> None:
    assert accepted(header) == chosen


def test_answer_is_compressed_where_that_gains_something(encoding: str) -> None:
    body = b"a probable answer " * 100
    small = compressed(body, encoding)
    assert small is not None
    assert len(small) < len(body)
    assert DECODERS[encoding](small) == body
    assert compressed(b"x" * (LEAST - 1), encoding) is None
    assert compressed(body, "") is None


def many(count: int) -> dict[str, Any]:
    return {"instances": [{"text": "a"}] * count}


def test_request_and_answer_travel_compressed(client: TestClient, encoding: str) -> None:
    plain = client.post(PREDICT, json=many(9), headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    response = client.post(
        PREDICT,
        content=ENCODERS[encoding](orjson.dumps(many(9))),
        headers={"content-encoding": encoding, "accept-encoding": encoding},
    )
    assert response.headers["content-encoding"] == encoding
    assert int(response.headers["content-length"]) < len(plain.content)
    assert response.json() == plain.json()  # the client has decompressed it


def test_length_of_the_json_is_that_before_compression_both_ways(client: TestClient, encoding: str) -> None:
    texts = [bytes([97 + number]) for number in range(4)]
    blob = b"".join(b"\x01\x00\x00\x00" + text for text in texts)
    item = {"name": "text", "datatype": "BYTES", "shape": [4, 1], "parameters": {"binary_data_size": len(blob)}}
    head = orjson.dumps({"inputs": [item], "parameters": {"binary_data_output": True}})
    response = client.post(
        INFER,
        content=ENCODERS[encoding](head + blob),
        headers={
            "content-encoding": encoding,
            "accept-encoding": encoding,
            JSON_LENGTH.decode(): str(len(head)),
        },
    )
    assert response.status_code == 200, response.text
    assert response.headers["content-encoding"] == encoding
    length = int(response.headers[JSON_LENGTH.decode()])
    outputs = orjson.loads(response.content[:length])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    assert length + sum(sizes) == len(response.content)


def test_small_answer_is_left_as_it_is(client: TestClient) -> None:
    message = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]}]}
    response = client.post(INFER, json={**message, "outputs": [{"name": "score"}]}, headers={"accept-encoding": "gzip"})
    assert (response.status_code, "content-encoding" in response.headers) == (200, False)


@pytest.mark.parametrize(
    ("content", "encoding", "status", "said"),
    [
        (gzip.compress(bytes(LIMIT + 1)), "gzip", 413, "decompressed"),
        (zlib.compress(bytes(2**26)), "deflate", 413, "decompressed"),
        (gzip.compress(b"{}")[:-3], "gzip", 400, "ends early"),
        (gzip.compress(b"{}") + b"{}", "gzip", 400, "followed by other data"),
        (b"{}", "gzip", 400, "is not gzip"),
        (b"{}", "br", 501, "'br' is not supported"),
    ],
    ids=["over the limit", "bomb", "cut", "junk", "plain", "other"],
)
@pytest.mark.parametrize("path", [INFER, PREDICT, "/v2/repository/index", "/v2/models/intent/generate"])
def test_body_that_cannot_be_decompressed_is_refused_on_every_route(
    client: TestClient, path: str, content: bytes, encoding: str, status: int, said: str
) -> None:
    response = client.post(
        path, content=content, headers={"content-encoding": encoding, "accept-encoding": "gzip, deflate"}
    )
    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert said in response.json()["error"]
    assert "content-encoding" not in response.headers

"""gzip and deflate of HTTP bodies, both ways (Content-Encoding and Accept-Encoding of RFC 9110)."""

from __future__ import annotations

import zlib

from serving.errors import InvalidInput, Unsupported
from serving.gateway.http_errors import BodyTooLarge

# zlib's window bits: 15 for the zlib format that HTTP calls deflate, 16 more for gzip, 32 more for either.
WINDOW = {"gzip": 31, "deflate": 15}
EITHER = 47
# Smaller bodies grow, or shrink by less than the work is worth.
LEAST = 256
LEVEL = 1


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """The body as it was before it was encoded, never more than ``limit`` bytes of it in memory.

    Raises Unsupported for another encoding than gzip, deflate and identity, BodyTooLarge, and InvalidInput for data
    that is damaged, cut, or followed by something else.
    """
    if encoding == "identity":
        return body
    if encoding not in WINDOW:
        raise Unsupported(f"Content-Encoding {encoding!r} is not supported; send gzip, deflate or the body as it is")
    inflater = zlib.decompressobj(EITHER)
    try:
        content = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidInput(f"the request body is not {encoding}: {error}; encode it or leave out the header") from None
    if len(content) > limit:
        raise BodyTooLarge(f"the decompressed request body is over the limit of {limit} bytes; send fewer rows at once")
    if not inflater.eof or inflater.unused_data:
        what = "is followed by other data" if inflater.eof else "ends early"
        raise InvalidInput(f"the request body is not {encoding}: it {what}")
    return content


def accepted(header: str) -> str:
    """The encoding that an Accept-Encoding header likes best of those there are; empty for none."""
    best, quality = "", 0.0
    for item in header.split(","):
        name, _, parameter = item.strip().partition(";")
        weight = _quality(parameter)
        if name.strip() in WINDOW and weight > quality:
            best, quality = name.strip(), weight
    return best


def compressed(body: bytes, encoding: str) -> bytes | None:
    """The encoded body, or None where that would gain nothing."""
    if not encoding or len(body) < LEAST:
        return None
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW[encoding])
    return deflater.compress(body) + deflater.flush()


def _quality(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0

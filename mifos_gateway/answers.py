"""Read one HTTP answer whole: framing, size limit, decompression. Parsing is http.client's; mistrusting it is ours."""

from __future__ import annotations

import http.client
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from mifos_gateway.errors import ResponseTooLarge

_FOLD = re.compile(r"[ \t]*[\r\n]+[ \t]*")
_INFLATE_STEP = 1 << 20

Tick = Callable[[], object]
"""Raises when the call has no time left."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What MIFOS said. The headers describe the content: what told of a compression that is undone is left out."""

    status: int
    reason: str
    headers: dict[str, str]  # as spelt by MIFOS; repeated ones joined by commas
    content: bytes
    closes: bool  # no further answer comes on this connection


def read_answer(wire: Any, method: str, *, limit: int, tick: Tick) -> Answer:
    """The answer to a request of that method; `limit` bounds its body in bytes, as sent and as decoded.

    Raises ResponseTooLarge, http.client.HTTPException and zlib.error, besides what reading the wire raises.
    """
    answer = _read_head(wire, method)
    body = _read_body(answer, method, limit=limit)
    headers = _headers(answer)
    return Answer(
        status=answer.status,
        reason=answer.reason,
        content=_decode(body, headers, limit=limit, tick=tick) if body else body,
        headers=headers,
        closes=answer.will_close,
    )


def too_large() -> NoReturn:
    raise ResponseTooLarge("MIFOS's answer is larger than MIFOS_MAX_RESPONSE_BYTES.", sent="unknown")


def _read_head(wire: Any, method: str) -> http.client.HTTPResponse:
    while True:
        answer = http.client.HTTPResponse(wire, method=method)  # asks for no more than wire.makefile()
        answer.begin()
        if answer.status == 101:
            raise http.client.HTTPException("switches to a protocol that nobody asked for")
        if answer.status >= 200:  # 100 to 199 come before the answer
            return answer


def _read_body(answer: http.client.HTTPResponse, method: str, *, limit: int) -> bytes:
    if method == "HEAD" or answer.status in (204, 304):
        return b""
    _check_framing(answer)
    if answer.length is not None and answer.length > limit:
        too_large()
    try:
        body = answer.read(limit + 1)
    except ValueError as error:  # http.client takes a chunk of -5 bytes at its word
        raise http.client.HTTPException("a chunk of impossible size") from error
    if len(body) > limit:
        too_large()
    if answer.length:  # read(n) keeps silent about a Content-Length that was not reached
        raise http.client.IncompleteRead(body, answer.length)
    return body


def _check_framing(answer: http.client.HTTPResponse) -> None:
    """http.client reads on to the connection's end where it does not understand; that would mix answers up."""
    if answer.chunked:
        return
    if answer.headers.get("transfer-encoding") is not None:
        raise http.client.HTTPException("unknown transfer encoding")
    lengths = {value.strip() for value in answer.headers.get_all("content-length", [])}
    if len(lengths) > 1 or not all(length.isascii() and length.isdigit() for length in lengths):
        raise http.client.HTTPException("contradictory content length")
    if lengths and answer.length is None:
        raise http.client.HTTPException("a content length of too many digits")


def _headers(answer: http.client.HTTPResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    spelling: dict[str, str] = {}
    for name, value in answer.headers.items():
        name, value = spelling.setdefault(name.lower(), name), _FOLD.sub(" ", value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _decode(body: bytes, headers: dict[str, str], *, limit: int, tick: Tick) -> bytes:
    """The body without its content codings, if all of them are ours to undo; the headers then say so."""
    spelling = {name.lower(): name for name in headers}
    header = headers.get(spelling.get("content-encoding", ""), "")
    codings = [coding for part in header.split(",") if (coding := part.strip().lower()) not in ("", "identity")]
    if not codings or not all(coding in ("gzip", "x-gzip", "deflate") for coding in codings):
        return body
    for coding in reversed(codings):
        body = _inflate(body, coding, limit=limit, tick=tick)
    for name in ("content-encoding", "content-length"):
        headers.pop(spelling.get(name, ""), None)
    return body


def _inflate(data: bytes, coding: str, *, limit: int, tick: Tick) -> bytes:
    if coding == "deflate":  # zlib's format by the standard, bare deflate by custom
        is_zlib = len(data) > 1 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
        return _inflate_member(data, zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS, limit=limit, tick=tick)[0]
    whole, data = _inflate_member(data, zlib.MAX_WBITS + 16, limit=limit, tick=tick)
    while data.startswith(b"\x1f\x8b"):  # members may follow one another; anything else is padding
        more, data = _inflate_member(data, zlib.MAX_WBITS + 16, limit=limit - len(whole), tick=tick)
        whole += more
    return whole


def _inflate_member(data: bytes, window: int, *, limit: int, tick: Tick) -> tuple[bytes, bytes]:
    """The content and what lies behind its end; in steps, so that a bomb meets the limit and the clock."""
    decoder, content = zlib.decompressobj(window), bytearray()
    while not decoder.eof:
        piece = decoder.decompress(data, _INFLATE_STEP)
        data = decoder.unconsumed_tail
        content += piece
        tick()
        if len(content) > limit:
            too_large()
        if not (piece or data or decoder.eof):
            raise zlib.error("it ends too early")
    return bytes(content), decoder.unused_data

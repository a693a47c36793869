"""Between WSGI and the guard: the request as it was received, and MIFOS's answer as it goes back."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse

from mifos_gateway import api_errors, fallbacks
from mifos_gateway.cache_control import UNSAID, CacheControl
from mifos_gateway.errors import MifosUnavailable
from mifos_gateway.outbox.preferences import NONE, Preference
from mifos_gateway.refusals import InvalidBody, InvalidPath, RequestTooLarge

if TYPE_CHECKING:
    import requests

FORWARDED = {
    "Content-Type": "CONTENT_TYPE",
    "Accept": "HTTP_ACCEPT",
    "If-None-Match": "HTTP_IF_NONE_MATCH",
    "If-Match": "HTTP_IF_MATCH",
}
"""What of the caller's headers MIFOS gets; never cookies or credentials."""

RETURNED = (
    *("Content-Type", "ETag", "Content-Disposition", "Content-Language", "Content-Range", "Accept-Ranges"),
    *("Last-Modified", "Expires", "Cache-Control", "Age", "Retry-After", "Allow", "X-Served-From-Cache"),
    *("Date", "Cache-Status", fallbacks.HEADER),
)
"""What of MIFOS's headers the caller gets. A list of the useful and not of the harmful: hop-by-hop headers, cookies,
`WWW-Authenticate` and `Content-Encoding` (the body is decoded) stay here, and so does `Location`, which would lead
callers around the gateway."""

RETURNED_OF_DEFERRED = ("Location", "Preference-Applied", "Idempotency-Key")
"""Besides, of the gateway's own 202."""

_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_SAFE = "/:@!$&'()*+,;=~-._"
_PRINTABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# A caller that is still sending may not read an answer, so for so long what it sends is thrown away.
_PARTING = 1.0
_DISCARDED_AT_ONCE = 65_536


def target(request: HttpRequest, path: str) -> str:
    """The path below `…/mifos/{client}/` and the query, byte for byte; `path` is the former as Django decoded it."""
    raw = request.META.get("RAW_URI") or request.META.get("REQUEST_URI")
    if raw is None:  # a server that does not tell, or Django's test client
        query = request.META.get("QUERY_STRING", "")
        return quote(path, safe=_SAFE) + (f"?{query}" if query else "")
    if not raw.startswith("/"):
        raw = _AUTHORITY.sub("", raw, count=1)
    mount = request.path_info[: len(request.path_info) - len(path)]
    for prefix in (mount, request.META.get("SCRIPT_NAME", "").rstrip("/") + mount):
        if raw.startswith(prefix):
            return str(raw[len(prefix) :])
    raise InvalidPath(f"The path must begin with {mount} as it stands here, without escapes.")


def headers(request: HttpRequest, request_id: str) -> dict[str, str]:
    """Those that go to MIFOS."""
    meta = request.META
    sent = {name: meta[key] for name, key in FORWARDED.items() if meta.get(key)}
    sent["X-Request-ID"] = sent["X-Correlation-ID"] = request_id
    return sent


def preference(request: HttpRequest) -> Preference:
    """`Prefer` of RFC 7240."""
    given = request.META.get("HTTP_PREFER")
    return Preference.parse(given) if given else NONE


def cache_control(request: HttpRequest) -> CacheControl:
    """What the caller says of answers that were kept; `Pragma` is how HTTP/1.0 said it."""
    given = request.META.get("HTTP_CACHE_CONTROL")
    if given is None and "no-cache" in request.META.get("HTTP_PRAGMA", "").lower():
        given = "no-cache"
    return CacheControl.parse(given) if given else UNSAID


def body(request: HttpRequest, limit: int) -> bytes | None:
    """The body byte for byte, None without one."""
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        raise InvalidBody("Content-Length is not a number.") from None
    # Only this tells a body without length from none at all, where reading would wait for ever.
    if "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower():
        # Not Django's stream, which ends at Content-Length and so is empty here.
        return _read(request.META["wsgi.input"], limit, None)
    return _read(request, limit, length) if length else None


def answer(got: requests.Response, *, method: str) -> HttpResponse:
    """MIFOS's answer for the caller: status, body and useful headers, whatever the status."""
    if not 200 <= got.status_code <= 599:
        raise MifosUnavailable(f"MIFOS answered with status {got.status_code}.", sent="unknown")
    content = b"" if method == "HEAD" else got.content
    response = HttpResponse(content, status=got.status_code, headers=_returned(got))
    if "Content-Type" not in got.headers:
        del response.headers["Content-Type"]
    # The length of a HEAD's or a 304's answer is that of another body.
    length = got.headers.get("Content-Length") if "Content-Encoding" not in got.headers else None
    is_of_other_length = method == "HEAD" or got.status_code == 304
    if is_of_other_length and length and length.isdigit():
        response.headers["Content-Length"] = length
    response.is_of_unknown_length = is_of_other_length and "Content-Length" not in response.headers  # type: ignore[attr-defined]
    return api_errors.quiet(response)


def end_connection_after(response: HttpResponse, request: HttpRequest) -> None:
    """Once the answer is out, leave the rest of the body unread: first our side of the connection ends, then it does.

    Not all at once, as bytes that nobody has read would make the end a reset, which may take the answer with it.
    """
    connection = request.META.get("gunicorn.socket")
    if connection is not None:
        # WSGI calls these when the server has sent the answer; until then nothing waits for the body.
        response._resource_closers.append(partial(_part, connection))  # type: ignore[attr-defined]


def _part(connection: socket.socket) -> None:
    ends_at = time.monotonic() + _PARTING
    with contextlib.suppress(OSError):  # which TimeoutError is one of
        connection.shutdown(socket.SHUT_WR)
        while (left := ends_at - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(_DISCARDED_AT_ONCE):
                break
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)  # so that the server, too, finds the end instead of waiting for more


def _returned(got: requests.Response) -> dict[str, str]:
    is_deferred = fallbacks.provenance(got) == fallbacks.Deferred.provenance
    names = (*RETURNED, *RETURNED_OF_DEFERRED) if is_deferred else RETURNED
    found = ((name, got.headers.get(name)) for name in names)
    return {name: value for name, value in found if value is not None and _PRINTABLE.fullmatch(value)}


def _read(stream: object, limit: int, length: int | None) -> bytes:
    if length is not None and length > limit:
        raise _too_large(limit)  # without a look at the body, which the caller may be waiting to send
    try:
        content: bytes = stream.read(limit + 1)  # type: ignore[attr-defined]
    except Exception as error:  # servers have many names for a body that breaks off or is badly framed
        raise InvalidBody("The request's body could not be read.") from error
    if len(content) > limit:
        raise _too_large(limit)
    if length is not None and len(content) != length:
        raise InvalidBody("The request's body is shorter than its Content-Length.")
    return content


def _too_large(limit: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request's body is larger than {limit} bytes.")

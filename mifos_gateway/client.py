"""Speak HTTP to MIFOS: its URLs, its tenant, our two users; one call in is at most one request out.

What goes wrong is raised in the terms of errors.py. The transport and its wall-clock limit are in deadline.py.
"""

from __future__ import annotations

import base64
import functools
import importlib.metadata
import os
import re
import ssl
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_encoding_from_headers

from mifos_gateway.deadline import DeadlineAdapter, Origin
from mifos_gateway.errors import InvalidCall

User = Literal["maker", "checker"]

_API_ROOT = re.compile(r"/api(/v[12])?$", re.IGNORECASE)
_API_PREFIX = re.compile(r"/?(?:api/)?(v[12])(?=[/?]|$)", re.IGNORECASE)
_ABSOLUTE = re.compile(r"//|[A-Za-z][A-Za-z0-9+.-]*:/")
_UNSENDABLE = re.compile(r"[^\x21-\x7e]|#")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_/-]*")
_OURS = frozenset(
    ("authorization", "connection", "content-length", "cookie", "expect", "fineract-platform-tenantid", "host")
) | {"proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "user-agent"}
"""Headers that a caller cannot set: they say who we are, or where a request ends."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A technical user of MIFOS."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MifosConfig:
    """Where MIFOS is and who we are there. `base_url` may end in `/api/v1`, and in a slash."""

    base_url: str
    tenant_id: str
    maker: Credentials
    checker: Credentials
    verify_tls: bool = True
    ca_bundle: str | None = None  # a file or a folder; certifi's bundle without one
    max_response_bytes: int = 16 * 1024 * 1024
    pool_size: int = 32  # idle connections kept for each user; more may be open while calls run


class MifosClient:
    """The pooled connections to one MIFOS. Threads share it; a forked child gets connections of its own."""

    def __init__(self, config: MifosConfig, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._monotonic = monotonic
        self._origin, self._root = _split_base_url(config.base_url)
        self._tls = _tls_context(config) if self._origin.scheme == "https" else None
        self._sessions = self._open_sessions()
        _clients.add(self)

    def __repr__(self) -> str:
        return f"<MifosClient {self._origin}{self._root}>"

    def send(
        self,
        user: User,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float,
    ) -> requests.Response:
        """Send one request and return the whole answer, whatever its status.

        `target` is a path below the API and perhaps a query, percent-encoded: "clients", "/api/v1/clients?limit=1",
        "v2/clients/search". It goes out byte for byte, redirects are not followed, and cookies are not kept.
        `timeout` is in seconds and bounds the whole call.

        Raises InvalidCall (a ValueError), MifosUnavailable, MifosTimeout, ResponseTooLarge.
        """
        request = requests.PreparedRequest()
        request.method = method
        request.url = f"{self._origin}{self._root}{api_path(target)}"
        request.headers = _headers(method, headers or {}, body)
        request.body = body
        return self._sessions[user].send(request, timeout=timeout, allow_redirects=False, stream=True, proxies={})

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()

    def _open_sessions(self) -> dict[User, _Session]:
        return {user: self._open_session(getattr(self._config, user)) for user in get_args(User)}

    def _open_session(self, credentials: Credentials) -> _Session:
        adapter = DeadlineAdapter(
            self._origin,
            fixed_headers={
                "Host": self._origin.authority,
                "User-Agent": _user_agent(),
                "Authorization": _basic(credentials),
                "Fineract-Platform-TenantId": self._config.tenant_id,
            },
            tls=self._tls,
            pool_size=self._config.pool_size,
            max_response_bytes=self._config.max_response_bytes,
            monotonic=self._monotonic,
        )
        return _Session(str(self._origin), adapter)

    def _renew(self) -> None:
        """In a forked child: the parent goes on with its connections, so here they are closed and replaced."""
        self.close()
        self._sessions = self._open_sessions()


def answer_of(status: int, content: bytes, headers: Mapping[str, str]) -> requests.Response:
    """An answer that MIFOS did not give."""
    answer = requests.Response()
    answer.status_code = status
    answer._content = content
    answer.headers.update(headers)
    answer.encoding = get_encoding_from_headers(answer.headers) or "utf-8"
    return answer


def place_of(base_url: str) -> str:
    """One spelling of where a MIFOS is, for all of them. Raises ValueError."""
    origin, root = _split_base_url(base_url)
    return f"{origin}{root}"


class _Session(requests.Session):
    """Speaks to one origin, takes nothing from the environment, keeps no cookies and looks at no redirect."""

    def __init__(self, origin: str, adapter: DeadlineAdapter) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.adapters.clear()
        self.mount(origin, adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None  # requests parses Location even of redirects that it shall not follow, and trips over bad ones


def api_path(target: str) -> str:
    """The path, with query, below MIFOS's context path: "clients?x=1" becomes "/api/v1/clients?x=1".

    Raises InvalidCall for what cannot be sent or could leave the API.
    """
    if _UNSENDABLE.search(target):
        raise InvalidCall("The target holds characters that must be percent-encoded.")
    path = target.partition("?")[0]
    if _ABSOLUTE.match(path):
        raise InvalidCall("The target must be a path below MIFOS's API, not an absolute URL.")
    if not _PLAIN_PATH.fullmatch(path) and _climbs(path):
        raise InvalidCall("The target holds a dot segment.")
    if prefix := _API_PREFIX.match(target):
        return f"/api/{prefix[1].lower()}{target[prefix.end() :]}"
    return f"/api/v1/{target.removeprefix('/')}"


def _climbs(path: str) -> bool:
    """Whether a server that decodes (twice, even) and drops `;parameters` could see a `.` or `..` segment."""
    encoded = ""
    while encoded != path:
        encoded, path = path, unquote(path)
    return any(segment.partition(";")[0] in (".", "..") for segment in re.split(r"[/\\]", path))


def _split_base_url(base_url: str) -> tuple[Origin, str]:
    """The origin and the context path of e.g. "https://mifos:8443/fineract-provider/api/v1/"."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("The base URL of MIFOS must be http://... or https://... with a host.")
    if parts.username is not None or parts.query or parts.fragment or _UNSENDABLE.search(parts.path):
        raise ValueError("The base URL of MIFOS must be scheme, host, port and path only.")
    scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
    host = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode("ascii")
    port = parts.port or (443 if scheme == "https" else 80)
    return Origin(scheme, host, port), _API_ROOT.sub("", parts.path.rstrip("/")).rstrip("/")


def _headers(method: str, given: Mapping[str, str], body: bytes | None) -> CaseInsensitiveDict[str]:
    headers: CaseInsensitiveDict[str] = CaseInsensitiveDict({"Accept": "*/*", "Accept-Encoding": "gzip, deflate"})
    for name, value in given.items():
        if name.lower() in _OURS:
            raise InvalidCall(f"The header {name} is not a caller's to set.")
        headers[name] = value
    if body is not None or method not in ("GET", "HEAD"):  # some servers want a length even where there is no body
        headers["Content-Length"] = str(len(body or b""))
    return headers


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


def _tls_context(config: MifosConfig) -> ssl.SSLContext:
    """Made once: reading the bundle takes longer than a call."""
    bundle = config.ca_bundle or DEFAULT_CA_BUNDLE_PATH
    folder = os.path.isdir(bundle)
    try:
        context = ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
    except OSError as error:
        raise ValueError(f"The CA bundle {bundle} cannot be used: {error.strerror or error}") from None
    context.set_alpn_protocols(["http/1.1"])
    if not config.verify_tls:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@functools.cache
def _user_agent() -> str:
    try:
        return f"mifos-gateway/{importlib.metadata.version('mifos-gateway')}"
    except importlib.metadata.PackageNotFoundError:  # run from a checkout
        return "mifos-gateway/0"


_clients: weakref.WeakSet[MifosClient] = weakref.WeakSet()


def _renew_all() -> None:
    for client in list(_clients):
        client._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)

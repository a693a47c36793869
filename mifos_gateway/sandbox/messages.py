"""What goes in and out of the sandbox: a request as it came, an answer as it will go."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, unquote

CONTEXT_PATH = "/fineract-provider"
TENANT_HEADER = "fineract-platform-tenantid"
IDEMPOTENCY_HEADER = "idempotency-key"


@dataclass(frozen=True)
class Request:
    """One HTTP request; `target` is kept byte for byte, header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def raw_query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.raw_query, keep_blank_values=True)

    def param(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        return self.param(name).lower() == "true"

    @property
    def route(self) -> str:
        """The decoded path after `/fineract-provider/api/v1/` (or v2); after the context path elsewhere."""
        path = unquote(self.path).removeprefix(CONTEXT_PATH)
        for prefix in ("/api/v1/", "/api/v2/", "/"):
            if path.startswith(prefix):
                return path.removeprefix(prefix)
        return path

    @property
    def credentials(self) -> tuple[str, str] | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            username, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return (username, password) if colon else None

    @property
    def username(self) -> str | None:
        return self.credentials[0] if self.credentials else None

    @property
    def tenant(self) -> str | None:
        return self.headers.get(TENANT_HEADER) or self.param("tenantIdentifier") or None

    @property
    def idempotency_key(self) -> str | None:
        return self.headers.get(IDEMPOTENCY_HEADER) or None


@dataclass(frozen=True)
class Answer:
    """A whole answer; `chunked` sends it without a Content-Length."""

    status: int
    body: bytes = b""
    content_type: str | None = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    chunked: bool = False

    def having(self, *headers: tuple[str, str]) -> "Answer":
        return replace(self, headers=self.headers + headers)


def json_answer(content: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(content, separators=(",", ":"), default=float).encode())


def html_answer(status: int, reason: str) -> Answer:
    """The page that a servlet container or a proxy sends: not Fineract's error JSON."""
    title = f"{status} {reason}"
    page = f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return Answer(status, page.encode(), "text/html;charset=utf-8")

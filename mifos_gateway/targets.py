"""Read the target of a call, path and query as received, and refuse what could leave MIFOS's API.

What is refused is judged on the bytes that would go on the wire, once decoded: servlet containers decode once, drop
`;parameters` from each segment and only then resolve `..` and `//`, so the checks look at both forms.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_plus, unquote_to_bytes

from mifos_gateway.refusals import InvalidPath, InvalidQuery

_API_PREFIX = re.compile(r"(?:api/)?(v[12])(?:/|$)", re.IGNORECASE)
_NOT_ON_THE_WIRE = re.compile(r"[^\x21-\x7e]|#")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# A dot, slash, backslash or percent sign: nobody needs them so, and Fineract's own firewall refuses most of them too.
_DISGUISED = re.compile(r"%(?:2e|2f|5c|25)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_PATH_PARAMETERS = re.compile(r";[^/]*")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a call goes. `raw` is what is sent; the rest is for judging it."""

    raw: str
    version: str
    path: str  # decoded; without API prefix, path parameters and outer slashes: "clients/1/accounts"
    query: str  # as received, "" without one

    @property
    def canonical(self) -> str:
        """One spelling for all spellings of the same call: `clients`, `v1/clients` and `/api/v1/clients` are one."""
        return f"{self.version}/{self.path}?{self.query}"


def parse(raw: str) -> Target:
    """The target `path[?query]`, relative to MIFOS's API and percent-encoded, or InvalidPath."""
    path, _, query = raw.partition("?")
    if _NOT_ON_THE_WIRE.search(raw):
        raise InvalidPath("The path or query holds characters that must be percent-encoded.")
    clean = _without_parameters(_decode(path))
    _refuse_escape_routes(clean)
    version, clean = _split_prefix(clean.strip("/"))
    if not clean:
        raise InvalidPath("The path names no resource.")
    return Target(raw=raw, version=version, path=clean, query=query)


def refuse_tenant_choice(query: str) -> None:
    """The tenant is the gateway's to choose; MIFOS would also take it from this parameter."""
    for pair in re.split("[&;]", query):
        name = pair.partition("=")[0]
        while (decoded := unquote_plus(name)) != name:
            name = decoded
        if name.strip("\x00 \t\r\n").lower() == "tenantidentifier":
            raise InvalidQuery("The query must not name a tenant (tenantIdentifier).")


def _decode(path: str) -> str:
    if _BROKEN_ESCAPE.search(path):
        raise InvalidPath("The path holds a broken percent escape.")
    if _DISGUISED.search(path):
        raise InvalidPath("The path holds an encoded dot, slash, backslash or percent sign.")
    try:
        decoded = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidPath("The path is not UTF-8.") from None
    if "\\" in decoded or _CONTROL.search(decoded):
        raise InvalidPath("The path holds a backslash or a control character.")
    return decoded


def _without_parameters(path: str) -> str:
    return _PATH_PARAMETERS.sub("", path) if ";" in path else path


def _refuse_escape_routes(path: str) -> None:
    if _ABSOLUTE.match(path):
        raise InvalidPath("The path is an absolute URL.")
    if path.startswith("/") or "//" in path:
        raise InvalidPath("The path holds an empty segment (//).")
    if any(segment.strip() in (".", "..") for segment in path.split("/")):
        raise InvalidPath("The path holds a dot segment (. or ..).")


def _split_prefix(path: str) -> tuple[str, str]:
    prefix = _API_PREFIX.match(path)
    if prefix is None:
        return "v1", path
    return prefix[1].lower(), path[prefix.end() :]

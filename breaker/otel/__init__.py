"""OpenTelemetry: a span for each guarded call, transitions as events and logs, the metrics by OTLP.

Off unless `BREAKER["OPENTELEMETRY"]` says otherwise or the environment names a receiver, by the variables that
OpenTelemetry defines for all its SDKs. While it is off nothing of opentelemetry is imported, and a call runs the same
code as without this package. (This module itself imports nothing of it, for it is asked.)
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

from breaker import conf

Signal = Literal["traces", "logs", "metrics"]
SIGNALS: tuple[Signal, ...] = ("traces", "logs", "metrics")
PROTOCOL = "http/protobuf"
NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
collectors: list[Any] = []
"""What gives the metrics, as prometheus_client's collectors do; where it is empty, the breakers' own."""
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+ *=[ !#-+\--:<-\[\]-~]*|")
"""As the exporter takes it; what it does not it would show in the log, and a key may stand there."""
INSTALL = "pip install mifos-gateway[otel]"


def is_on() -> bool:
    """Whether guarded calls are traced and transitions told."""
    return is_wanted() and _is_installed("opentelemetry.trace")


def is_wanted() -> bool:
    said = conf.opentelemetry()
    return any(map(is_exported, SIGNALS)) if said is None else said and not _is_disabled()


def is_exported(signal: Signal) -> bool:
    """Whether the environment names a receiver of that signal, and nothing there switches it off."""
    if _is_disabled():
        return False
    exporters = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip() or "otlp"
    return "otlp" in exporters.split(",") and bool(_endpoint(signal)[1])


def start() -> None:
    """Export from this process, if there is anything to; the first call alone does anything."""
    if all(map(_is_installed, NEEDED)):
        from breaker.otel import export, metrics

        export.start()
        metrics.start()


def problems() -> Iterator[str]:
    """What keeps from exporting what the environment asks for, each with its remedy."""
    exported = [signal for signal in SIGNALS if is_exported(signal)]
    if not is_wanted():
        return
    for missing in [name for name in NEEDED if exported and not _is_installed(name)] or _without_api():
        yield f"OpenTelemetry is configured, and its package {missing} is not installed: {INSTALL}"
    said = dict(_protocol(signal) for signal in exported)
    for name, protocol in said.items():
        if protocol != PROTOCOL:
            yield f"{name}={protocol}: only {PROTOCOL} is spoken here; receivers take it on port 4318, not 4317"
    for name, endpoint in dict(map(_endpoint, exported)).items():
        if not _is_url(endpoint):
            yield f"{name}={endpoint}: http://host:port or https://host is needed"
    for name, headers in dict(_said(signal, "HEADERS", "") for signal in exported).items():
        if headers and not all(_HEADER.fullmatch(each.strip()) for each in headers.split(",")):
            yield f"{name}: name=value is needed, by comma, percent-encoded where a value holds a comma or a quote"


def _is_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _without_api() -> list[str]:
    return [] if _is_installed("opentelemetry.trace") else ["opentelemetry.trace"]


def _endpoint(signal: Signal) -> tuple[str, str]:
    return _said(signal, "ENDPOINT", "")


def _protocol(signal: Signal) -> tuple[str, str]:
    return _said(signal, "PROTOCOL", PROTOCOL)


def _said(signal: Signal, what: str, default: str) -> tuple[str, str]:
    """The variable that counts, the signal's own before that of all, and its value."""
    own, general = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}"
    name = own if os.environ.get(own, "").strip() else general
    return name, os.environ.get(name, "").strip() or default


def _is_url(endpoint: str) -> bool:
    try:
        url = urlsplit(endpoint)
        return url.scheme in ("http", "https") and bool(url.hostname)
    except ValueError:
        return False


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False

"""What is known about the request being served, for the access log and for error answers."""

import time
from dataclasses import dataclass, field

from django.http import HttpRequest

from mifos_gateway import request_id
from mifos_gateway.errors import Sent

MIFOS_PATH = "/api/v1/mifos/"
# People look at these; everything else answers JSON, whatever goes wrong.
_HTML_PATHS = ("/admin",)


@dataclass(slots=True)
class Exchange:
    request_id: str
    consumer: str = "-"
    client: str = "-"
    route: str = "-"
    outcome: str = ""
    code: str = ""  # of our own error
    sent: Sent = None  # what an error that is nobody's plan has to say about MIFOS
    started_at: float = field(default_factory=time.perf_counter)

    @property
    def duration_ms(self) -> float:
        return round((time.perf_counter() - self.started_at) * 1000, 2)


def begin(request: HttpRequest) -> Exchange:
    found = Exchange(request_id=request_id.accept(request.META.get("HTTP_X_REQUEST_ID")))
    if request.path_info.startswith(MIFOS_PATH):
        found.sent = False
    request.exchange = found  # type: ignore[attr-defined]
    return found


def of(request: HttpRequest) -> Exchange:
    """This request's exchange; made now where RequestIdMiddleware is not installed."""
    found: Exchange | None = getattr(request, "exchange", None)
    return found or begin(request)


def expects_html(request: HttpRequest) -> bool:
    return request.path_info.startswith(_HTML_PATHS)

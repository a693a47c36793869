"""One breaker's page in the admin: how it is, why, what it was, and its numbers to take away."""

from __future__ import annotations

import difflib
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.db import Error as DatabaseFailure
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLResolver, include, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_safe

from breaker import charts, conf, exports, pages, queries, timeline
from breaker.charts import Axis, Chart
from breaker.dashboard import Card
from breaker.engine.window import Totals
from breaker.models import BreakerEvent
from breaker.origins import is_switched, origins
from breaker.timeline import Point, Span, Summary

log = logging.getLogger("breaker")

SPANS = {
    "15m": (gettext_lazy("15 minutes"), timedelta(minutes=15)),
    "1h": (gettext_lazy("1 hour"), timedelta(hours=1)),
    "24h": (gettext_lazy("24 hours"), timedelta(hours=24)),
    "7d": (gettext_lazy("7 days"), timedelta(days=7)),
    "30d": (gettext_lazy("30 days"), timedelta(days=30)),
}
EVENTS_ON_A_PAGE = 25
STATES = 100
"""In the list; a breaker that flaps for a month has more than a page can show."""
RENEW = {"15m": 10, "1h": 10}
"""Seconds after which the history renews itself; the longer spans change too little. What is now is renewed always."""
TABS = {"open": "trouble", "half": "watch"}
"""What title and icon of the tab follow, as on the dashboard."""
TONES = {"CLOSED": ("closed", "●"), "OPEN": ("open", "▲"), "HALF_OPEN": ("half", "◐")}
DATA = ("numbers", "states", "events")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of the history is asked for; what is unknown counts as not said."""

    span: str = "1h"
    kind: str = ""
    ever: bool = False
    """Events of all times, not only of the span."""
    page: str = "1"

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        span, kind = query.get("span", ""), query.get("kind", "")
        return cls(
            span=span if span in SPANS else "1h",
            kind=kind if kind in BreakerEvent.Kind.values else "",
            ever=query.get("ever") == "1",
            page=query.get("p", "1")[:9],
        )

    @property
    def length(self) -> timedelta:
        return SPANS[self.span][1]

    def query(self, **other: Any) -> str:
        said = {"span": self.span, "kind": self.kind, "ever": "1" if self.ever else "", **other}
        return urlencode({key: value for key, value in said.items() if value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    title: str
    tone: str = "calm"

    @classmethod
    def of(cls, name: str, card: Card | None) -> Tab:
        if card is None:
            return cls(title=name)
        calm = card.tone == "closed" and not card.held
        tone = "calm" if calm else TABS.get(card.tone, "watch")
        return cls(title=card.label if calm else f"{card.shape} {card.label}: {card.shown}", tone=tone)


def said(card: Card) -> list[tuple[str, datetime | None]]:
    """All that operators say of a breaker now, and until when; None: until released."""
    entry, snapshot = card.entry, card.entry.snapshot
    found = []
    if is_switched(entry) and not (entry.enabled and entry.policy.enabled):  # to enable what is so is no more to say
        found.append((_("enabled") if entry.enabled else _("disabled"), snapshot.switch_until))
    if entry.forced:
        found.append((_("forced %s") % entry.forced, snapshot.force_until))
    return [(text, None if until is None else datetime.fromtimestamp(until / 1000, UTC)) for text, until in found]


@dataclass(frozen=True, kw_only=True)
class Past:
    """The history of one span."""

    axis: Axis
    points: Sequence[Point]
    spans: Sequence[Span]
    summary: Summary
    events: Page[BreakerEvent]

    @cached_property
    def shades(self) -> list[charts.Shade]:
        return charts.shades(self.axis, self.spans)

    @property
    def counted(self) -> list[tuple[Point, dict[str, Any]]]:
        """The steps in which something was, the newest first, as the table has them."""
        return [(point, row(point)) for point in reversed(self.points) if point.totals.fires or point.seconds_open]

    @property
    def states(self) -> list[tuple[Span, str, str]]:
        """The newest first, with colour and shape."""
        return [(span, *TONES[span.state.value]) for span in reversed(self.spans[-STATES:])]

    @property
    def older_states(self) -> int:
        """How many the list leaves out."""
        return max(0, len(self.spans) - STATES)


# -- the page ----------------------------------------------------------------------------------------------------------


@never_cache
@require_safe
def page(request: HttpRequest, name: str) -> HttpResponseBase:
    if not pages.may_see(request.user):
        raise PermissionDenied
    asked = Asked.of(request.GET)
    card = next(iter(pages.cards_of([name])), None)
    try:
        if card is None and not timeline.knows(name):
            return _missing(request, name)
        if (form := request.GET.get("format")) in exports.FORMATS:
            return _file(name, asked, request.GET.get("of", ""), form)
        past = _past(name, asked)
    except DatabaseFailure as error:
        log.warning("The page of breaker %s is without history: the database is away (%s)", name, type(error).__name__)
        past = None
        if card is None or "format" in request.GET:
            return _show(request, name, asked, card, None, status=503)
    return _show(request, name, asked, card, past)


def _show(
    request: HttpRequest, name: str, asked: Asked, card: Card | None, past: Past | None, *, status: int = 200
) -> HttpResponse:
    threshold = card.entry.policy.error_threshold_percentage if card else None
    drawn: list[Chart] = charts.charts(past.points, past.axis, threshold) if past else []
    now = timeline.now()
    context = admin.site.each_context(request) | {
        "title": card.label if card else name,
        "asked": asked,
        **_head(name, card),
        "settings": origins(card.entry) if card else [],
        "past": past,
        "charts": drawn,
        "spans": [(key, words, asked.query(span=key)) for key, (words, _length) in SPANS.items()],
        "span_words": SPANS[asked.span][0],
        "kinds": BreakerEvent.Kind.choices,
        "files": [(of, [(form, asked.query(of=of, format=form)) for form in exports.FORMATS]) for of in DATA],
        "operates": pages.may_operate(request.user),
        "keeps_history": conf.keeps_history(),
        "now": now,
        "now_ms": round(now.timestamp() * 1000),
        "renew": RENEW.get(asked.span, 0),
        "newer": asked.query(p=past.events.previous_page_number()) if past and past.events.has_previous() else "",
        "older": asked.query(p=past.events.next_page_number()) if past and past.events.has_next() else "",
    }
    return TemplateResponse(request, "breaker/detail.html", context, status=status)


@never_cache
@require_GET
def live(request: HttpRequest, name: str) -> HttpResponse:
    """The page's head, to the dashboard's script as `pages.live` is: it needs no database while who asks is known."""
    rights = pages.door.rights(request)
    if rights is None:
        return pages.live(request)  # which says why
    card = next(iter(pages.cards_of([name])), None)
    read_at = card.entry.now if card else round(timeline.now().timestamp() * 1000)
    # Without `now`: the script counts, and what is the same need not be sent again.
    body = render_to_string("breaker/detail_head.html", _head(name, card) | {"operates": rights.operates}).encode()
    etag = f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = {"ETag": etag, "X-Breaker-At": str(read_at), "X-Breaker-Age": "0"}
    if request.headers.get("If-None-Match") == etag:
        return HttpResponse(status=304, headers=headers)
    return HttpResponse(body, headers=headers)


def _head(name: str, card: Card | None) -> dict[str, Any]:
    return {"name": name, "card": card, "tab": Tab.of(name, card), "said": said(card) if card else []}


def _past(name: str, asked: Asked) -> Past:
    until = timeline.now()
    since = until - asked.length
    events = Paginator(_events(name, asked, since), EVENTS_ON_A_PAGE).get_page(asked.page)
    since = timeline.floor(since, until)
    spans = timeline.spans(name, since, until)
    points = timeline.history(name, since, until, was=spans)
    return Past(
        axis=Axis(since=since, until=until, step=points[1].at - points[0].at),
        points=points,
        spans=spans,
        summary=timeline.summed_up(spans),
        events=events,
    )


def _events(name: str, asked: Asked, since: datetime) -> QuerySet[BreakerEvent]:
    found = timeline.events(name)
    if asked.kind:
        found = found.filter(kind=asked.kind)
    return found if asked.ever else found.filter(at__gte=since)


def _missing(request: HttpRequest, name: str) -> HttpResponse:
    known = queries.known_names()
    context = admin.site.each_context(request) | {
        "title": _("There is no such breaker"),
        "name": name,
        "closest": next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.3)), ""),
    }
    return TemplateResponse(request, "breaker/missing.html", context, status=404)


# -- its data, to take away --------------------------------------------------------------------------------------------


def _file(name: str, asked: Asked, of: str, form: str) -> HttpResponseBase:
    until = timeline.now()
    since = until - asked.length
    rows: Iterator[Mapping[str, Any]]
    columns: Sequence[str]
    if of == "events":
        found = _events(name, asked, since)
        rows, columns = (timeline.as_dict(event) for event in found.iterator(500)), timeline.EVENT_COLUMNS
    elif of == "states":
        rows = (_state(span) for span in timeline.spans(name, since, until))
        columns = ("state", "since", "until", "seconds")
    else:
        of = "numbers"
        since = timeline.floor(since, until)
        was = timeline.spans(name, since, until)  # however many: the page shows them, too
        rows = (row(point) for point in timeline.history(name, since, until, was=was))
        columns = tuple(row(_NOTHING))
    return exports.answer(rows, file=f"{name.replace(':', '-')}-{of}-{asked.span}", form=form, columns=columns)


def row(point: Point) -> dict[str, Any]:
    """A point of all charts."""
    told = point.as_dict()
    rate = round(point.totals.deciding_error_rate, 2) if point.totals.completed else None
    return {**told, "errorRate": rate}


def _state(span: Span) -> dict[str, Any]:
    return {
        "state": span.state.value,
        "since": queries.timestamp(span.since),
        "until": queries.timestamp(span.until),
        "seconds": round(span.seconds, 3),
    }


_NOTHING = Point(at=datetime.fromtimestamp(0, UTC), totals=Totals(), seconds_open=0.0)


def url(site: admin.AdminSite) -> URLResolver:
    own = [
        path("", site.admin_view(page), name="breaker_breaker_detail"),
        path("live", live, name="breaker_breaker_detail_live"),
    ]
    return path("breaker/<str:name>/", include(own))

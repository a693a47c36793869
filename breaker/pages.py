"""The dashboard in the admin: its page, the answer that the page asks for each second, and acting."""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseFailure
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from breaker import dashboard, extras, operations, queries
from breaker.acting import ACTS, ActForm
from breaker.dashboard import Card, Filter
from breaker.engine import desk
from breaker.extras import Line
from breaker.operations import ActRefused, Done, UnknownBreaker
from breaker.registry import registry

HELD_UP = 0.2
"""Seconds that who watches waits while another reads; then the last answer must do, lest a store that hangs take all
threads."""
SHARE = 4
"""At most one part in so many of the time goes into reading all, however many breakers there are; and as much again
into what changed since."""
KEPT = 4096
"""Rendered cards that are kept at most."""
VARIANTS = 64
"""Rendered answers that are kept of one reading: by filter, page, language and whether who asks may act."""


def may_see(user: Any) -> bool:
    return bool(user.has_perm("breaker.view_breaker")) or may_operate(user)


def may_operate(user: Any) -> bool:
    return bool(user.has_perm("breaker.operate_breaker"))


# -- what all who watch share ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    body: bytes
    packed: bytes
    """The same for who takes gzip: made once for all who watch, and an eighth as long."""
    etag: str
    at: int
    """The shared clock when it was read, ms; of two answers the later one holds."""
    read_at: float

    @property
    def age_ms(self) -> int:
        return round((time.monotonic() - self.read_at) * 1000)


@dataclass(slots=True)
class Watch:
    """One reading for all who watch this process, and each rendering of it once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    overview: queries.Overview | None = None
    known: dict[str, str] = field(default_factory=dict)
    """What `overview` shows of the breakers that this process has: name to rev."""
    followed: int = 0
    """The newest write of all that it shows."""
    fresh_until: float = 0.0
    news_from: float = 0.0
    """No sooner is read what changed since, lest breakers that change all the time be read all the time."""
    read_at: float = 0.0
    answers: dict[Any, Answer] = field(default_factory=dict)
    kept: dict[Any, Any] = field(default_factory=dict)
    """Cards as they were rendered last."""

    def answer(self, asked: Filter, operates: bool, lines: tuple[Line, ...] = ()) -> Answer | None:
        """None: there is none yet, and whoever makes it is held up."""
        key = asked, operates, lines, get_language()
        if not self.lock.acquire(timeout=HELD_UP):
            return self.answers.get(key)
        try:
            overview = self._overview()
            found = self.answers.get(key)
            return found or self._render(overview, asked, operates, lines)
        finally:
            self.lock.release()

    def _render(self, overview: queries.Overview, asked: Filter, operates: bool, lines: tuple[Line, ...]) -> Answer:
        board = dashboard.board(overview, asked)
        if len(self.kept) > KEPT:
            self.kept.clear()
        context = {"board": board, "operates": operates, "kept": self.kept, "lines": lines}
        body = render_to_string("breaker/live.html", context).encode()
        made = Answer(
            body=body,
            packed=gzip.compress(body, 1, mtime=0),
            etag=f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"',  # weak: it stands for both
            at=round(overview.status.at.timestamp() * 1000),
            read_at=self.read_at,
        )
        if len(self.answers) < VARIANTS:
            self.answers[asked, operates, lines, get_language()] = made
        return made

    def _overview(self) -> queries.Overview:
        began = time.monotonic()
        known = {circuit.name: circuit.snapshot.rev for circuit in registry.circuits.values()}
        followed = registry.sync.followed
        if self.overview is None or began >= self.fresh_until:
            self._take(queries.overview(), known, followed)
            self.fresh_until = began + max(dashboard.FRESH, SHARE * (self.read_at - began))
        # A transition is news at once; this process heard of it before anybody asks, also of breakers that others made.
        elif began >= self.news_from and (known, followed) != (self.known, self.followed):
            changed = [name for name in known if self.known.get(name) != known[name]]
            self._take(queries.renewed(self.overview, changed) if changed else queries.overview(), known, followed)
            self.news_from = self.read_at + SHARE * (self.read_at - began)
        assert self.overview is not None
        return self.overview

    def _take(self, overview: queries.Overview, known: dict[str, str], followed: int) -> None:
        self.overview, self.known, self.followed, self.answers = overview, known, followed, {}
        self.read_at = time.monotonic()


watch = Watch()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Of somebody who may see."""

    operates: bool
    extras: tuple[str, ...]
    """Which of other apps' lines are shown."""

    @classmethod
    def of(cls, user: Any) -> Rights:
        return cls(operates=may_operate(user), extras=extras.seen_by(user))


class Door:
    """Whose browser may see, and whether it may act, remembered for a while: to look it up costs more than the answer.

    A permission that is taken away counts within 30 s; acts ask each time. So does a logout in the other
    workers; here it counts at once.
    """

    SECONDS = 30.0
    MOST = 1000

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Rights]] = {}

    def rights(self, request: HttpRequest) -> Rights | None:
        """None: neither sees nor acts."""
        key = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
        until, known = self._known.get(key, (0.0, None))
        if time.monotonic() < until:
            return known
        if not admin.site.has_permission(request) or not may_see(request.user):
            self._known.pop(key, None)
            return None
        found = Rights.of(request.user)
        if key:  # without: who was known by something else, as a proxy's header; all strangers share that key
            if len(self._known) >= self.MOST:
                self._known.clear()
            self._known[key] = time.monotonic() + self.SECONDS, found
        return found

    def forget(self, session: str) -> None:
        self._known.pop(session, None)


door = Door()


@receiver(user_logged_out)
def _forget(request: HttpRequest, **more: Any) -> None:
    door.forget(request.session.session_key or "")


# -- the pages ---------------------------------------------------------------------------------------------------------


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """All breakers as they are now; a script renews it."""
    if not may_see(request.user):
        raise PermissionDenied
    asked = Filter.of(request.GET)
    board = dashboard.board(queries.overview(), asked)
    context = admin.site.each_context(request) | {
        "title": _("Circuit breakers"),
        "board": board,
        "asked": asked,
        "states": dashboard.STATES,
        "acts": ACTS,
        "operates": may_operate(request.user),
        "lines": extras.lines(extras.seen_by(request.user)),
        "now": board.now,
        "now_ms": round(board.now.timestamp() * 1000),
    }
    return TemplateResponse(request, "breaker/dashboard.html", context)


@never_cache
@require_GET
def live(request: HttpRequest) -> HttpResponse:
    """The changing part of the page, ready-made, the same for all who may see the same."""
    rights = door.rights(request)
    if rights is None:
        if admin.site.has_permission(request):
            return HttpResponse(_("You may no longer see the breakers."), status=403, content_type="text/plain")
        return HttpResponse(_("Your session has ended."), status=401, content_type="text/plain")
    answer = watch.answer(Filter.of(request.GET), rights.operates, extras.lines(rights.extras))
    if answer is None:
        return HttpResponse(_("Still reading; ask again."), status=503, content_type="text/plain")
    headers = {"ETag": answer.etag, "X-Breaker-At": str(answer.at), "X-Breaker-Age": str(answer.age_ms)}
    headers["Vary"] = "Accept-Encoding"
    if request.headers.get("If-None-Match") == answer.etag:
        return HttpResponse(status=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return HttpResponse(answer.packed, headers=headers | {"Content-Encoding": "gzip"})
    return HttpResponse(answer.body, headers=headers)


def detail_link(name: str) -> str:
    """The address of one breaker's own page; "" while there is none."""
    try:
        return reverse("admin:breaker_breaker_detail", args=[name])
    except NoReverseMatch:
        return ""


# -- acting ------------------------------------------------------------------------------------------------------------


@require_http_methods(["GET", "HEAD", "POST"])
def act(request: HttpRequest) -> HttpResponse:
    """Ask for reason and duration; once they are given, and nothing has changed meanwhile, act."""
    if not may_operate(request.user):
        raise PermissionDenied
    given = request.POST if request.method == "POST" else request.GET
    names, action = list(dict.fromkeys(given.getlist("name"))), given.get("action", "")
    if not names:
        messages.warning(request, _("Nothing was done: choose one breaker or more."))
        return redirect("admin:breaker_breaker_changelist")
    if action not in ACTS:
        messages.warning(request, _("Nothing was done: choose what to do."))
        return redirect("admin:breaker_breaker_changelist")
    confirmed = request.method == "POST" and "confirmed" in request.POST
    form = ActForm(request.POST if confirmed else None, action=action)
    chosen = cards_of(names)
    if unknown := [name for name in names if name not in {card.name for card in chosen}]:
        messages.error(request, _("Nothing was done: there is no breaker %s.") % ", ".join(unknown))
        return redirect("admin:breaker_breaker_changelist")
    changed: list[tuple[str, Card]] = []
    partly = False
    if confirmed and form.is_valid():
        changed = _changed(request.POST.getlist("seen"), chosen)
        if not changed:
            overtaken = _do(request, chosen, action, form)
            partly = len(overtaken) < len(chosen)
            changed = _ask_again(request, overtaken, action)
            if not changed:
                return redirect("admin:breaker_breaker_changelist")
            chosen = [card for _was, card in changed]
    context = admin.site.each_context(request) | {
        "title": ACTS[action].title,
        "act": ACTS[action],
        "action": action,
        "form": form,
        "cards": chosen,
        "changed": changed,
        "partly": partly,
        "now": timezone.now(),
    }
    return TemplateResponse(request, "breaker/act.html", context, status=409 if changed else 200)


def cards_of(names: list[str]) -> list[Card]:
    overview = queries.Overview(status=queries.status(names), lost="", workers=[], age_ms=0, recent={}, changes={})
    found = {card.name: card for card in dashboard.cards(overview)}
    return [found[name] for name in names if name in found]


def _changed(seen: list[str], chosen: list[Card]) -> list[tuple[str, Card]]:
    """What the operator saw of breakers that are no longer so, and what they are now."""
    saw = {each.split(" ", 2)[0]: each for each in seen}
    return [
        (saw[card.name].split(" ", 2)[-1] if card.name in saw else "", card)
        for card in chosen
        if saw.get(card.name) != card.seen
    ]


def _do(request: HttpRequest, chosen: list[Card], action: str, form: ActForm) -> list[Done]:
    """Act, and tell how it went; those that changed between the look and the act, and so were left alone."""
    try:
        done = operations.act(
            [card.name for card in chosen],
            action,
            actor=request.user.get_username(),
            source="admin",
            reason=form.cleaned_data["reason"],
            for_seconds=form.cleaned_data["for_seconds"],
            over={card.name: desk.seen(card.entry.snapshot) for card in chosen},
            user=request.user,
        )
    except (ActRefused, UnknownBreaker) as error:
        messages.error(request, _("Nothing was done: %s") % error)
        return []
    except DatabaseFailure:
        messages.error(request, _("Nothing was done: the database, which keeps who did it, is away."))
        return []
    _tell(request, [one for one in done if not one.overtaken], action, form.cleaned_data["how_long"])
    return [one for one in done if one.overtaken]


def _ask_again(request: HttpRequest, overtaken: list[Done], action: str) -> list[tuple[str, Card]]:
    """What is to be confirmed once more; a breaker that cannot be seen any more is told as not done."""
    names = [one.breaker for one in overtaken]
    changed = _changed(request.POST.getlist("seen"), cards_of(names)) if names else []
    shown = {card.name for _was, card in changed}
    _tell(request, [one for one in overtaken if one.breaker not in shown], action, "")
    return changed


def _tell(request: HttpRequest, done: list[Done], action: str, how_long: str) -> None:
    fine = [each.breaker for each in done if each.row.status == each.row.Status.APPLIED]
    if fine:
        said = {"what": ACTS[action].title, "names": ", ".join(fine), "long": f", {how_long}" if how_long else ""}
        told = _("%(what)s%(long)s: %(names)s. All workers follow within 100 ms.") % said
        messages.success(request, told)
    for each in done:
        if each.error:
            holds = each.row.status == each.row.Status.APPLIED
            how = _("Done with %(name)s, but: %(why)s") if holds else _("Not done with %(name)s: %(why)s")
            messages.error(request, how % {"name": each.breaker, "why": each.error})


def back_link(name: str) -> str:
    """Where the admin's history leads: the breaker's own page, or the dashboard filtered to it."""
    return detail_link(name) or f"{reverse('admin:breaker_breaker_changelist')}?{urlencode({'q': name})}"


def urls(site: admin.AdminSite) -> list[URLPattern]:
    """Addresses in the admin; before its own, since `breaker/` is also Django's index of this app."""
    return [
        path("breaker/", site.admin_view(page), name="breaker_breaker_changelist"),
        path("breaker/live", live, name="breaker_breaker_live"),
        path("breaker/act", site.admin_view(act), name="breaker_breaker_act"),
    ]

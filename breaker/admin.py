"""The breakers in the admin: the dashboard, each breaker's page, and operators' acts and events, to read
and not to change, nor to delete with the account that acted."""

import contextlib
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth import get_user_model
from django.db import Error as DatabaseFailure
from django.db.models import QuerySet
from django.forms import Script
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, URLResolver, path
from django.utils.translation import gettext_lazy as _

from breaker import conf, detail, django_log, exports, pages, timeline
from breaker.models import Breaker, BreakerEvent, OperatorAct
from breaker.recorder import recorder
from breaker.templatetags.breaker_times import duration, moment


class ReadOnly(admin.ModelAdmin):  # type: ignore[type-arg]
    """For who may see breakers, and changed by nobody."""

    class Media:
        js = (Script("breaker/breaker.js", type="module"),)  # shows times in the operator's zone

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return pages.may_see(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return pages.may_see(request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Of a filter that PostgreSQL fails on the admin makes none, as of any other that cannot be."""
        if any("\0" in given for _key, every in request.GET.lists() for given in every):
            raise IncorrectLookupParameters
        return super().get_changelist_instance(request)


class OfThisGateway(ReadOnly):
    """Rows of this namespace: databases are shared by gateways of several."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(namespace=conf.namespace())


@admin.register(Breaker)
class BreakerAdmin(ReadOnly):
    """The entry in index and menu that leads to the dashboard."""

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]
        return [path("<path:object_id>/change/", self.change_view, name="breaker_breaker_change")]

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **more: Any) -> HttpResponse:
        """Where the admin's list of recent actions leads."""
        return redirect(pages.back_link(object_id))


@admin.register(OperatorAct)
class OperatorActAdmin(OfThisGateway):
    list_display = ("when", "breaker", "action", "actor", "source", "reason", "status", "ends")
    fields = readonly_fields = (
        *("when", "breaker", "action", "lasts", "ends", "actor", "source", "reason"),
        *("state_before", "state_after", "status", "error", "applied"),
    )
    list_filter = ("action", "status", "source", "breaker")
    search_fields = ("breaker", "actor", "reason")
    date_hierarchy = "created_at"

    @admin.display(description=_("when"), ordering="created_at")
    def when(self, act: OperatorAct) -> Any:
        return moment(act.created_at)

    @admin.display(description=_("until"), ordering="until", empty_value="-")
    def ends(self, act: OperatorAct) -> Any:
        return act.until and moment(act.until)

    @admin.display(description=_("for"))
    def lasts(self, act: OperatorAct) -> Any:
        return None if act.for_seconds is None else duration(act.for_seconds)

    @admin.display(description=_("applied"))
    def applied(self, act: OperatorAct) -> Any:
        return act.applied_at and moment(act.applied_at)


@admin.register(BreakerEvent)
class BreakerEventAdmin(OfThisGateway):
    """What happened to the breakers of this gateway, to read and to take away."""

    list_display = (
        *("when", "breaker", "kind", "operation", "from_state", "to_state", "actor", "source", "reason"),
        "alone",
    )
    fields = readonly_fields = (*list_display, "counts", "lasted")
    list_filter = ("kind", "operation", "source", "to_state", "alone", "breaker")
    search_fields = ("breaker", "actor", "reason")
    date_hierarchy = "at"
    list_per_page = 50
    show_full_result_count = False
    actions = ("as_csv", "as_json")

    @admin.display(description=_("when"), ordering="at")
    def when(self, event: BreakerEvent) -> Any:
        return moment(event.at)

    @admin.display(description=_("former state lasted"))
    def lasted(self, event: BreakerEvent) -> Any:
        return None if event.seconds is None else duration(event.seconds)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        with contextlib.suppress(DatabaseFailure):  # what is stored is what there is to read
            recorder.catch_up()
        return super().changelist_view(request, extra_context)

    @admin.action(description=_("Save the selected events as CSV"), permissions=["view"])
    def as_csv(self, request: HttpRequest, chosen: QuerySet[BreakerEvent]) -> HttpResponseBase:
        return _export(chosen, "csv")

    @admin.action(description=_("Save the selected events as JSON"), permissions=["view"])
    def as_json(self, request: HttpRequest, chosen: QuerySet[BreakerEvent]) -> HttpResponseBase:
        return _export(chosen, "json")


def _export(chosen: QuerySet[BreakerEvent], form: str) -> HttpResponseBase:
    rows = (timeline.as_dict(event) for event in chosen.iterator(500))
    return exports.answer(rows, file="breaker-events", form=form, columns=timeline.EVENT_COLUMNS)


class KeepsWhoActed:
    """Over the project's own admin of users: an account's entries in Django's log would be deleted with it, and the
    page that asks would read them out, reasons and all, to who may see no breaker."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may: bool = super().has_delete_permission(request, obj)  # type: ignore[misc]
        return may and not (obj is not None and django_log.tells_of(obj))


def _keep_who_acted(site: admin.AdminSite) -> None:
    users = get_user_model()
    if site.is_registered(users) and not isinstance(chosen := site.get_model_admin(users), KeepsWhoActed):
        site.unregister(users)
        site.register(users, type(type(chosen).__name__, (KeepsWhoActed, type(chosen)), {}))


def _add(site: admin.AdminSite) -> None:
    """Have the dashboard's addresses before the site's own, and a breaker's page, which takes any name, before the
    last one, which takes everything; whichever site the project has chosen."""
    inherited = site.get_urls

    def get_urls() -> list[Any]:
        _keep_who_acted(site)  # not before: by now every app has registered its admin
        *own, last = inherited()
        return [*pages.urls(site), *own, detail.url(site), last]

    site.get_urls = get_urls  # type: ignore[method-assign]


django_log.keep(Breaker)
_add(admin.site)

"""The breakers in the admin: the dashboard, each breaker's page, and operators' acts and events, to read
and not to change."""

import contextlib
from typing import Any

from django.contrib import admin
from django.db import Error as DatabaseFailure
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, URLResolver, path
from django.utils.translation import gettext_lazy as _

from breaker import conf, detail, exports, pages, timeline
from breaker.models import Breaker, BreakerEvent, OperatorAct
from breaker.recorder import recorder


class ReadOnly:
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Breaker)
class BreakerAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """The entry in index and menu that leads to the dashboard."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return pages.may_see(request.user)

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]
        return [path("<path:object_id>/change/", self.change_view, name="breaker_breaker_change")]

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **more: Any) -> HttpResponse:
        """Where the admin's list of recent actions leads."""
        return redirect(pages.back_link(object_id))


@admin.register(OperatorAct)
class OperatorActAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ("created_at", "breaker", "action", "actor", "source", "reason", "status", "until")
    list_filter = ("action", "status", "source", "breaker")
    search_fields = ("breaker", "actor", "reason")
    date_hierarchy = "created_at"


@admin.register(BreakerEvent)
class BreakerEventAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]
    """What happened to the breakers of this gateway, to read and to take away."""

    list_display = (
        "at",
        "breaker",
        "kind",
        "operation",
        "from_state",
        "to_state",
        "actor",
        "source",
        "reason",
        "alone",
    )
    list_filter = ("kind", "operation", "source", "to_state", "alone", "breaker")
    search_fields = ("breaker", "actor", "reason")
    date_hierarchy = "at"
    exclude = ("namespace", "rev")
    list_per_page = 50
    show_full_result_count = False
    actions = ("as_csv", "as_json")

    def get_queryset(self, request: HttpRequest) -> QuerySet[BreakerEvent]:
        """Of this namespace: databases are shared by gateways of several."""
        return super().get_queryset(request).filter(namespace=conf.namespace())

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


def _add(site: admin.AdminSite) -> None:
    """Have the dashboard's addresses before the site's own, and a breaker's page, which takes any name, before the
    last one, which takes everything; whichever site the project has chosen."""
    inherited = site.get_urls

    def get_urls() -> list[Any]:
        *own, last = inherited()
        return [*pages.urls(site), *own, detail.url(site), last]

    site.get_urls = get_urls  # type: ignore[method-assign]


_add(admin.site)

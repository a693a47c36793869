"""The breakers in the admin: the dashboard, and operators' acts, to read and not to change."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, URLResolver, path

from breaker import detail, pages
from breaker.models import Breaker, OperatorAct


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


def _add(site: admin.AdminSite) -> None:
    """Have the dashboard's addresses before the site's own, and a breaker's page, which takes any name, before the
    last one, which takes everything; whichever site the project has chosen."""
    inherited = site.get_urls

    def get_urls() -> list[Any]:
        *own, last = inherited()
        return [*pages.urls(site), *own, detail.url(site), last]

    site.get_urls = get_urls  # type: ignore[method-assign]


_add(admin.site)

"""The admin's site: its name, and who gets in."""

from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _


class GatewayAdminSite(AdminSite):
    site_header = site_title = "MIFOS gateway"
    index_title = _("Gateway administration")
    site_url = "/api/docs/"  # "View site": there is nothing at "/"

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """As Django's, but who has failed too often is told so, and for how long."""
        # Here, and not in axes' middleware, which every request would pass.
        response = super().login(request, extra_context)
        if not getattr(request, "axes_locked_out", False):
            return response
        wait = settings.AXES_COOLOFF_TIME
        context = {
            **self.each_context(request),
            "title": _("Too many failed logins"),
            "failures": settings.AXES_FAILURE_LIMIT,
            "minutes": int(wait.total_seconds() // 60),
        }
        headers = {"Retry-After": str(int(wait.total_seconds()))}
        return TemplateResponse(request, "admin/locked_out.html", context, status=429, headers=headers)

"""The admin's site: its name, and who gets in."""

import math
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_otp import user_has_device
from django_otp.forms import OTPAuthenticationFormMixin

from config.logins import shut_out


class LoginForm(OTPAuthenticationFormMixin, AdminAuthenticationForm):  # type: ignore[misc]
    """Name and password; then, of who has a second factor, its code."""

    otp_device = forms.CharField(required=False, widget=forms.Select)
    otp_token = forms.CharField(
        required=False, widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "autofocus": True})
    )

    otp_error_messages = {  # noqa: RUF012 - as in the mixin
        **OTPAuthenticationFormMixin.otp_error_messages,
        "token_required": _("Please enter the code of your second factor."),
        "invalid_token": _("This is not the code of now. A code can be used once."),
    }

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean()
        user = self.get_user()
        if user is None:  # the name or the password is missing
            return found
        if user_has_device(user):
            self.clean_otp(user)
        elif settings.ADMIN_REQUIRE_OTP:
            raise forms.ValidationError(
                _("A second factor is needed here, and this account has none yet: ask who operates the gateway.")
            )
        return found

    @staticmethod
    def device_choices(user: Any) -> Any:
        """Without the empty one: a code that was meant for another device costs this one a second's wait."""
        return OTPAuthenticationFormMixin.device_choices(user)[1:]


class GatewayAdminSite(AdminSite):
    site_header = site_title = "MIFOS gateway"
    index_title = _("Gateway administration")
    site_url = "/api/docs/"  # "View site": there is nothing at "/"

    login_form = LoginForm
    login_template = "admin/login_with_code.html"

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and (not settings.ADMIN_REQUIRE_OTP or request.user.is_verified())  # type: ignore[union-attr]

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """As Django's, but who has failed too often is told so, and for how long."""
        # Here, and not in axes' middleware, which every request would pass.
        response = super().login(request, extra_context)
        if not getattr(request, "axes_locked_out", False):
            return response
        found = shut_out(request)
        seconds = max(1, math.ceil((found.ends_at - timezone.now()).total_seconds()))
        context = {
            **self.each_context(request),
            "title": _("Too many failed logins"),
            "shut_out": found,
            "minutes": math.ceil(seconds / 60),
        }
        headers = {"Retry-After": str(seconds)}
        return TemplateResponse(request, "admin/locked_out.html", context, status=429, headers=headers)

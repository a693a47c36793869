"""Second factors in the admin: their keys and codes are for superusers alone.

django-otp shows them to whoever may look at a device, and with them and a password anybody is in.
"""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django_otp.plugins.otp_static.admin import StaticDeviceAdmin
from django_otp.plugins.otp_totp.admin import TOTPDeviceAdmin

SECRET = ("key", "qrcode_link")


class AuthenticatorAdmin(TOTPDeviceAdmin):  # type: ignore[misc]
    def get_list_display(self, request: HttpRequest) -> list[str]:
        return _shown(request, super().get_list_display(request))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        every = ((name, _shown(request, said["fields"])) for name, said in super().get_fieldsets(request, obj))
        return [(name, {"fields": fields}) for name, fields in every if fields]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """No filter by the key: it would tell it, letter by letter."""
        return lookup.partition("__")[0] not in SECRET and bool(super().lookup_allowed(lookup, value, request))

    def config_view(self, request: HttpRequest, pk: int) -> Any:
        _check(request)
        return super().config_view(request, pk)

    def qrcode_view(self, request: HttpRequest, pk: int) -> Any:
        _check(request)
        return super().qrcode_view(request, pk)


class RecoveryCodesAdmin(StaticDeviceAdmin):  # type: ignore[misc]
    def get_inline_instances(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_inline_instances(request, obj) if _may_see(request) else []


def _may_see(request: Any) -> bool:
    return bool(request.user.is_superuser)


def _check(request: HttpRequest) -> None:
    if not _may_see(request):
        raise PermissionDenied


def _shown(request: HttpRequest, fields: list[str]) -> list[str]:
    return [field for field in fields if field not in SECRET or _may_see(request)]

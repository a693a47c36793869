"""The admin with a site of our own (`config.site`), and others' apps under the names that it shows."""

from axes.apps import AppConfig as AxesConfig
from django.contrib.admin.apps import AdminConfig
from django.utils.translation import gettext_lazy as _
from django_otp.plugins.otp_static.apps import DefaultConfig as StaticConfig
from django_otp.plugins.otp_totp.apps import DefaultConfig as TotpConfig


class GatewayAdminConfig(AdminConfig):
    default_site = "config.site.GatewayAdminSite"

    def ready(self) -> None:
        super().ready()
        from axes.models import AccessFailureLog, AccessLog
        from django.contrib import admin
        from django_otp.plugins.otp_static.models import StaticDevice
        from django_otp.plugins.otp_totp.models import TOTPDevice

        from config.devices import AuthenticatorAdmin, RecoveryCodesAdmin

        admin.site.unregister([AccessLog, AccessFailureLog])  # nothing is written there
        admin.site.unregister([TOTPDevice, StaticDevice])
        admin.site.register(TOTPDevice, AuthenticatorAdmin)
        admin.site.register(StaticDevice, RecoveryCodesAdmin)


class FailedLoginsConfig(AxesConfig):  # type: ignore[misc]
    verbose_name = _("Failed logins")


class AuthenticatorsConfig(TotpConfig):  # type: ignore[misc]
    verbose_name = _("Second factor: authenticator apps")


class RecoveryCodesConfig(StaticConfig):  # type: ignore[misc]
    verbose_name = _("Second factor: recovery codes")

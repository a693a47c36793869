"""The admin with a site of our own (`config.site`), as Django's app of the same label."""

from django.contrib.admin.apps import AdminConfig


class GatewayAdminConfig(AdminConfig):
    default_site = "config.site.GatewayAdminSite"

    def ready(self) -> None:
        super().ready()
        from axes.models import AccessFailureLog, AccessLog
        from django.contrib import admin

        admin.site.unregister([AccessLog, AccessFailureLog])  # nothing is written there

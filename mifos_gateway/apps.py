"""The gateway as a Django app."""

import contextlib

from django.apps import AppConfig


class MifosGatewayConfig(AppConfig):
    name = "mifos_gateway"
    verbose_name = "MIFOS gateway"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from breaker import extras, otel
        from breaker.engine.policy import PolicyError
        from mifos_gateway import checks, deferred_line, guard, metrics  # noqa: F401 - checks registers its own
        from mifos_gateway.outbox.metrics import OutboxCollector

        extras.add(deferred_line.made())
        metrics.register(OutboxCollector())

        if otel.is_exported("metrics"):
            otel.collectors = metrics.collectors

        # So that status and health know the twelve before anybody calls. What is wrong with them is the check's to say.
        with contextlib.suppress(PolicyError):
            guard.make_breakers()

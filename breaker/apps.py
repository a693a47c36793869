"""The breakers as a Django app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class BreakerConfig(AppConfig):
    name = "breaker"
    verbose_name = _("Circuit breakers")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from breaker import checks, listeners, otel, signals  # noqa: F401 - checks registers its own

        listeners.add(signals.hear)
        if otel.is_on():
            from breaker.otel import news

            listeners.add(news.hear)

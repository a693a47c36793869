"""The gateway's addresses: `urlpatterns` below `api/v1/`, `probe_urlpatterns` at the root."""

from django.urls import path, register_converter

from mifos_gateway.deferred_views import DeferredListView, DeferredView, RetryView
from mifos_gateway.metrics import MetricsView
from mifos_gateway.probes import LiveView, ReadyView
from mifos_gateway.views import MifosView


class _Text:
    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class ClientConverter(_Text):
    regex = "maker|checker"


class AnythingConverter(_Text):
    """Unlike Django's `path` also nothing and line breaks: to refuse a path is the view's to do, and to say why."""

    regex = "(?s:.*)"


register_converter(ClientConverter, "mifos_client")
register_converter(AnythingConverter, "anything")

urlpatterns = [
    path("mifos/<mifos_client:client>/<anything:path>", MifosView.as_view(), name="mifos"),
    # Without the slash, Django would redirect to the address above.
    path("deferred-requests", DeferredListView.as_view(), name="deferred-requests"),
    path("deferred-requests/<uuid:id>", DeferredView.as_view(), name="deferred-request"),
    path("deferred-requests/<uuid:id>/retry", RetryView.as_view(), name="deferred-request-retry"),
    path("mifos/<mifos_client:client>", MifosView.as_view(schema=None), {"path": ""}),
]
probe_urlpatterns = [
    path("livez", LiveView.as_view(), name="livez"),
    path("readyz", ReadyView.as_view(), name="readyz"),
    path("metrics", MetricsView.as_view(), name="metrics"),
]

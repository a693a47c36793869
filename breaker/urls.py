"""The breakers' endpoints."""

from django.urls import path, re_path

from breaker.operations import ACTIONS
from breaker.timeline_views import AllEventsView, EventsView, HistoryView
from breaker.views import ActView, BreakerView, HealthView, StatusView

app_name = "breaker"
urlpatterns = [
    path("status", StatusView.as_view(), name="status"),
    path("health", HealthView.as_view(), name="health"),
    path("events", AllEventsView.as_view(), name="all-events"),
    path("<str:name>/events", EventsView.as_view(), name="events"),
    path("<str:name>/history", HistoryView.as_view(), name="history"),
    path("<str:name>", BreakerView.as_view(), name="breaker"),
    re_path(rf"^(?P<name>[^/]+)/(?P<action>{'|'.join(ACTIONS)})$", ActView.as_view(), name="act"),
]

"""The breakers' endpoints."""

from django.urls import path

from breaker.views import HealthView, StatusView

app_name = "breaker"
urlpatterns = [
    path("status", StatusView.as_view(), name="status"),
    path("health", HealthView.as_view(), name="health"),
]

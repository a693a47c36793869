"""Where everything is."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from mifos_gateway.urls import probe_urlpatterns

urlpatterns = [
    path("api/v1/circuit-breaker/", include("breaker.urls")),
    path("api/v1/", include("mifos_gateway.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("admin/", admin.site.urls),
    *probe_urlpatterns,
]
handler400 = "mifos_gateway.api_errors.bad_request"
handler403 = "mifos_gateway.api_errors.permission_denied"
handler404 = "mifos_gateway.api_errors.not_found"
handler500 = "mifos_gateway.api_errors.server_error"

"""Where everything is."""

from csp.constants import SELF
from csp.decorators import csp_update
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from mifos_gateway.urls import probe_urlpatterns

# Swagger's style sheet draws its arrows from data: addresses; its script comes from an address of its own.
docs = csp_update({"img-src": [SELF, "data:"]})(SpectacularSwaggerSplitView.as_view(url_name="schema"))


def favicon(request: HttpRequest) -> HttpResponse:
    """For who asks without having read a page."""
    return redirect(static("mifos_gateway/favicon.ico"))


urlpatterns = [
    path("api/v1/circuit-breaker/", include("breaker.urls")),
    path("api/v1/", include("mifos_gateway.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", docs, name="docs"),
    path("favicon.ico", favicon),
    path("admin/", admin.site.urls),
    *probe_urlpatterns,
]
handler400 = "mifos_gateway.api_errors.bad_request"
handler403 = "mifos_gateway.api_errors.permission_denied"
handler404 = "mifos_gateway.api_errors.not_found"
handler500 = "mifos_gateway.api_errors.server_error"

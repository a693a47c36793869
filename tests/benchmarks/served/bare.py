"""A Django project as `startproject` makes it, with DRF as it comes and one view: what a gateway is measured against.

`/answers` answers at once. `/calls` asks UPSTREAM by a plain `requests.Session` and hands its answer on: no token, no
deadline, no rules, no log line, no breaker.
"""

from __future__ import annotations

import json
import os
from typing import Any

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ["DJANGO_SECRET_KEY"],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
        "rest_framework",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    LOGGING_CONFIG=None,
    USE_TZ=True,
)

from django.core.wsgi import get_wsgi_application  # noqa: E402 - needs the settings

application = get_wsgi_application()

import requests  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402
from requests.adapters import HTTPAdapter  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402

from tests.benchmarks.served.upstream import BODY  # noqa: E402

CONTENT: dict[str, Any] = json.loads(BODY)
session = requests.Session()
session.mount("http://", HTTPAdapter(pool_maxsize=32))


class Answering(APIView):
    def get(self, request: Request) -> Response:
        return Response(CONTENT)


class Calling(APIView):
    def get(self, request: Request) -> HttpResponse:
        got = session.get(os.environ["UPSTREAM"], timeout=30)
        return HttpResponse(got.content, status=got.status_code, content_type=got.headers["Content-Type"])


urlpatterns = [path("answers", Answering.as_view()), path("calls", Calling.as_view())]

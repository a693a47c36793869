"""What browsers are told about people's pages: the policy, the cookies, the icon."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django_otp.plugins.otp_totp.models import TOTPDevice

from config.people import CSPMiddleware
from mifos_gateway import tokens
from mifos_gateway.models import Consumer

pytestmark = pytest.mark.django_db

INLINE = re.compile(
    r"<style|<script(?![^>]*\bsrc=)(?![^>]*\btype=\"application/json\")|<[^>]+\s(?:style|on[a-z]+)=|javascript:"
)
PAGES = [
    "/admin/",
    "/admin/breaker/",
    "/admin/auth/user/",
    "/admin/auth/user/add/",
    "/admin/mifos_gateway/consumer/",
    "/admin/mifos_gateway/consumer/add/",
    "/admin/mifos_gateway/consumer/{pk}/change/",
    "/admin/mifos_gateway/consumer/{pk}/rotate/",
    "/admin/mifos_gateway/token/",
    "/admin/breaker/operatoract/",
    "/admin/axes/accessattempt/",
    "/admin/otp_totp/totpdevice/add/",
    "/admin/otp_totp/totpdevice/{device}/config/",
    "/admin/otp_static/staticdevice/add/",
    "/api/docs/",
]


def policy(response: HttpResponse) -> dict[str, str]:
    directives = response.headers["Content-Security-Policy"].split("; ")
    return dict(directive.partition(" ")[::2] for directive in directives)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_nothing_that_its_policy_refuses(admin_client: Client, page: str) -> None:
    tokens.issue("shop")
    device = TOTPDevice.objects.create(user=User.objects.get(), name="app")
    response = admin_client.get(page.format(pk=Consumer.objects.get().pk, device=device.pk))

    assert response.status_code == 200
    assert INLINE.findall(response.content.decode()) == []
    assert not re.search(r"unsafe|\*|https?:", response.headers["Content-Security-Policy"])


def test_the_page_for_a_form_of_another_site_is_ours_and_has_nothing_that_its_policy_refuses() -> None:
    refused = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "ann"})
    page = refused.content.decode()

    assert (refused.status_code, INLINE.findall(page)) == (403, [])
    assert "Form refused | MIFOS gateway" in page
    assert "'self'" in refused.headers["Content-Security-Policy"]


def test_the_policy_lets_in_our_own_alone(client: Client) -> None:
    assert policy(client.get("/admin/login/")) == {
        "default-src": "'self'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }


def test_the_documentation_may_show_what_its_style_sheet_draws(client: Client) -> None:
    assert policy(client.get("/api/docs/"))["img-src"] == "'self' data:"


def test_the_documentation_s_script_has_an_address_of_its_own(client: Client) -> None:
    page = client.get("/api/docs/").content.decode()
    (address,) = re.findall(r'<script src="(/api/docs/[^"]*)"', page)
    script = client.get(address)

    assert script.headers["Content-Type"] == "application/javascript"
    assert b"SwaggerUIBundle({" in script.content
    assert b"/api/schema/" in script.content


@pytest.mark.parametrize(("path", "has_policy"), [("/admin/", True), ("/api/v1/mifos/maker/clients", False)])
def test_calls_to_mifos_do_not_pay_for_a_policy(path: str, has_policy: bool) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    answer = CSPMiddleware(view)(RequestFactory().get(path))
    assert ("Content-Security-Policy" in answer.headers) == has_policy


@pytest.mark.parametrize("page", ["/admin/login/", "/api/docs/"])
def test_a_page_is_in_no_frame_and_tells_no_other_site_its_address(client: Client, page: str) -> None:
    headers = client.get(page, headers={"host": "localhost"}).headers

    assert {name: headers[name] for name in ("X-Frame-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy")} == {
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
    }


def test_the_cookies_are_for_https_and_for_this_site(client: Client) -> None:
    User.objects.create_superuser("ann", password="right")
    cookies: Any = client.post("/admin/login/", {"username": "ann", "password": "right"}).cookies
    session, csrf = cookies["sessionid"], cookies["csrftoken"]

    assert (session["secure"], session["httponly"], session["samesite"], session["max-age"]) == (
        True,
        True,
        "Lax",
        12 * 3600,
    )
    assert (csrf["secure"], csrf["samesite"]) == (True, "Lax")


@pytest.mark.parametrize("page", ["/admin/login/", "/api/docs/"])
def test_a_page_has_our_icon(client: Client, page: str) -> None:
    icons = re.findall(r'<link rel="(?:alternate )?icon" href="([^"]*)"', client.get(page).content.decode())

    assert [icon.rpartition("/")[2] for icon in icons] == ["favicon.svg", "favicon.ico"]
    for icon in icons:
        answer = client.get(icon)
        assert answer.status_code == 200
        assert len(b"".join(answer)) < 2000


def test_who_asks_for_an_icon_without_reading_finds_one(client: Client) -> None:
    answer = client.get("/favicon.ico", follow=True)

    assert b"".join(answer).startswith(b"\0\0\1\0")

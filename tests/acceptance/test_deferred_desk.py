"""Deferred requests in a real browser: a blocked order is seen on the dashboard, looked into and released."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.browser import Desk, chromium, needs_chromium, sign_in
from tests.acceptance.gateway import Gateway, mifos_environ
from tests.programs import RedisServer

pytestmark = [needs_chromium, pytest.mark.timeout(240)]
PASSWORD = "for-the-tests-0nly"
USERS = """
from django.contrib.auth.models import Group, User
for name, group in (("olga", "Deferred request operators"), ("vera", "Deferred request viewers")):
    user = User.objects.create_user(name, password="%(password)s", is_staff=True)
    user.groups.set(Group.objects.filter(name__in=("Breaker viewers", group)))
"""
LIST = "/admin/mifos_gateway/deferredrequest/"
ORDER = "branch-7"
CLIENT = {"officeId": 1, "firstname": "Asha", "lastname": "Rao", "active": True}


class Site:
    """A gateway of two workers that defers, its MIFOS, a browser, and who has signed in."""

    def __init__(self, gateway: Gateway, mifos: Sandbox, browser: Browser) -> None:
        self.gateway, self.mifos, self.browser = gateway, mifos, browser
        self.is_blocked = False
        made = gateway.manage(f"shell -v0 -c '{USERS % {'password': PASSWORD}}'")
        assert made.returncode == 0, made.stderr
        self.cookies = {name: sign_in(browser, gateway, name, PASSWORD) for name in ("olga", "vera")}

    def block(self) -> None:
        """A write that MIFOS refuses, and one behind it in its order."""
        if self.is_blocked:
            return
        self.mifos.set_faults(mode="error", status=400, methods=["POST"], times=1)
        for _ in range(2):
            headers = {"Prefer": "respond-async, wait=0", "X-Order-Key": ORDER}
            assert self.gateway.call("POST", "clients", json=CLIENT, headers=headers).status_code == 202
        self.deliver()
        self.is_blocked = True

    def deliver(self) -> None:
        ran = self.gateway.manage("deliver_deferred --once")
        assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, copy_database: Callable[[Path], object], token: str
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("deferred")
    copy_database(folder)
    redis = RedisServer(folder)
    with Sandbox() as mifos, chromium() as browser:
        environ = {"REDIS_URL": redis.patient_url, "WEB_THREADS": "16", "GATEWAY_DEFERRED_ROUTES": "POST clients"}
        gateway = Gateway(folder, mifos_environ(mifos) | environ, token)
        try:
            yield Site(gateway, mifos, browser)
        finally:
            gateway.stop()
    redis.kill()


@pytest.fixture
def sit(site: Site) -> Iterator[Callable[..., Desk]]:
    """`sit("olga")`: a desk of hers, with an order that is blocked. No test ends with a complaint in the console."""
    site.block()
    desks: list[Desk] = []

    def sit_down(name: str = "olga", **context: Any) -> Desk:
        desks.append(Desk(site.browser, site.gateway, cookies=site.cookies[name], **context))
        return desks[-1]

    yield sit_down
    for desk in desks:
        desk.context.close()
    assert [complaint for desk in desks for complaint in desk.complaints] == []


def head_of_the_order(page: Page) -> None:
    page.get_by_role("link", name="1 order is blocked").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(1)
    page.locator("#result_list tbody th a").click()


def test_an_operator_releases_a_blocked_order(site: Site, sit: Callable[..., Desk]) -> None:
    watched = sit("vera").go()
    line = watched.locator("#extra-deferred")
    expect(line).to_contain_text(re.compile(r"1 deferred request waits\s+the oldest for \d+ (s|min)"))
    expect(line).to_contain_text("1 order is blocked")
    watched.evaluate("window.loadedOnce = true")

    page = sit("olga").go()
    head_of_the_order(page)
    expect(page.locator("#content")).to_contain_text("rejected by MIFOS, holds up its order")
    expect(page.locator("#content")).to_contain_text("is hidden from you")
    page.get_by_role("link", name="Release its order").click()
    expect(page.locator(".choice")).to_contain_text("1 waits behind it")
    page.get_by_role("button", name="Release its order").click()  # without a reason
    assert "/act/" in page.url
    page.fill("[name=reason]", "the branch enters it anew")
    page.get_by_role("button", name="Release its order").click()
    expect(page.locator(".messagelist")).to_contain_text("Release its order:")
    expect(page.locator("#result_list")).to_contain_text("rejected by MIFOS, released")

    expect(line).not_to_contain_text("blocked")
    site.is_blocked = False
    site.deliver()
    expect(line).to_contain_text("none waits")
    assert watched.evaluate("window.loadedOnce") is True
    page.reload()
    expect(page.locator("#result_list")).to_contain_text("delivered")
    page.locator("#result_list tbody tr", has_text="released").first.locator("th a").click()
    page.get_by_role("link", name="History").click()
    expect(page.locator("#change-history")).to_contain_text("the branch enters it anew")


def test_without_javascript_the_backlog_is_there(sit: Callable[..., Desk]) -> None:
    page = sit("vera", java_script_enabled=False).go()
    expect(page.locator("#extra-deferred")).to_contain_text(re.compile(r"the oldest for \d+ (s|min)"))
    head_of_the_order(page)
    expect(page.locator("#content")).to_contain_text("holds up its order")


def test_who_only_sees_cannot_act(site: Site, sit: Callable[..., Desk]) -> None:
    desk = sit("vera")
    page = desk.go()
    head_of_the_order(page)
    assert page.get_by_role("link", name="Release its order").count() == 0
    number = re.findall(r"/(\d+)/change/", page.url)[0]
    answer = page.goto(f"{site.gateway.url}{LIST}act/?action=release&chosen={number}")
    assert answer is not None
    assert answer.status == 403
    desk.complaints.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(site: Site, sit: Callable[..., Desk], scheme: str) -> None:
    desk = sit("olga", color_scheme=scheme)
    page = desk.go()
    assert violations(page) == []
    page.goto(f"{site.gateway.url}{LIST}")
    assert violations(page) == []
    page.locator("#result_list tbody tr", has_text="holds up").locator("th a").click()
    page.get_by_role("link", name="History").wait_for()
    assert desk.complaints == []
    assert violations(page) == []
    desk.complaints.clear()  # axe's own: it looks into style sheets by inline ones
    page.get_by_role("link", name="Send again").click()
    page.locator("[name=reason]").wait_for()
    assert violations(page) == []


def violations(page: Page) -> list[str]:
    page.wait_for_timeout(300)
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

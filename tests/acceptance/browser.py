"""The system's Chromium, for tests of what an operator sees."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.acceptance.gateway import Gateway

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run")

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs a Chromium: Debian's package `chromium`")


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class Desk:
    """An operator's window on a gateway. What the console says against the page is kept in `complaints`."""

    def __init__(self, browser: Browser, gateway: Gateway, *, cookies: list[dict[str, Any]], **context: Any) -> None:
        self.gateway = gateway
        self.context: BrowserContext = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | context)
        self.context.set_default_timeout(5_000)
        self.context.add_cookies(cookies)  # type: ignore[arg-type]
        self.complaints: list[str] = []
        self.page = self.new_page()

    def new_page(self) -> Page:
        page = self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def go(self, path: str = "/admin/breaker/") -> Page:
        self.page.goto(self.gateway.url + path)
        return self.page


def sign_in(browser: Browser, gateway: Gateway, name: str, password: str) -> list[dict[str, Any]]:
    """The cookies of somebody who has signed in by the form."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{gateway.url}/admin/login/?next=/admin/")
    page.fill("#id_username", name)
    page.fill("#id_password", password)
    page.press("#id_password", "Enter")
    page.wait_for_url(f"{gateway.url}/admin/")
    cookies = [dict(cookie) for cookie in context.cookies()]
    context.close()
    return cookies

"""The dashboard in a real browser, against real workers: an outage, acts, lost connections, and who can use it."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.browser import Desk, chromium, needs_chromium, sign_in
from tests.acceptance.callers import call
from tests.acceptance.gateway import Gateway, mifos_environ
from tests.programs import RedisServer, wait_for

pytestmark = [needs_chromium, pytest.mark.timeout(240)]
PASSWORD = "for-the-tests-0nly"
USERS = """
from django.contrib.auth.models import Group, User
User.objects.create_superuser("boss", password="%(password)s")
for name, group in (("olga", "Breaker operators"), ("vera", "Breaker viewers")):
    User.objects.create_user(name, password="%(password)s", is_staff=True).groups.add(Group.objects.get(name=group))
"""


class Site:
    """A gateway of two workers, its Redis, a MIFOS, a browser, and who has signed in."""

    def __init__(self, gateway: Gateway, redis: RedisServer, mifos: Sandbox, browser: Browser) -> None:
        self.gateway, self.redis, self.mifos, self.browser = gateway, redis, mifos, browser
        made = gateway.manage(f"shell -v0 -c '{USERS % {'password': PASSWORD}}'")
        assert made.returncode == 0, made.stderr
        self.tool = gateway.manage("create_consumer tool --operate").stdout.split()[-1]
        self.cookies = {name: sign_in(browser, gateway, name, PASSWORD) for name in ("boss", "olga", "vera")}

    def calm(self) -> None:
        self.mifos.set_faults(mode="ok")
        for name in ("MIFOS-Maker-get", "MIFOS-Maker-post", "MIFOS-Maker-put"):
            self.act(name, "reset")

    def act(self, name: str, action: str, reason: str = "before") -> None:
        """As another operator's tool does it."""
        url = f"{self.gateway.url}/api/v1/circuit-breaker/{name}/{action}"
        headers = {"Authorization": f"Token {self.tool}"}
        assert requests.post(url, json={"reason": reason}, headers=headers, timeout=10).status_code == 200

    def fail(self) -> None:
        """Open Maker GET."""
        self.mifos.set_faults(mode="error")
        wait_for(lambda: call(self.gateway).status == 503, "the breaker opens")


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, copy_database: Callable[[Path], object], token: str
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("dashboard")
    copy_database(folder)
    redis = RedisServer(folder)
    with Sandbox() as mifos, chromium() as browser:
        environ = {"REDIS_URL": redis.url, "BREAKER_RESET_TIMEOUT": "3", "WEB_THREADS": "16"}
        gateway = Gateway(folder, mifos_environ(mifos) | environ, token)
        try:
            yield Site(gateway, redis, mifos, browser)
        finally:
            gateway.stop()
    redis.kill()


@pytest.fixture
def sit(site: Site) -> Iterator[Callable[..., Desk]]:
    """`sit("olga")`: a desk of hers. No test ends with a complaint in the console."""
    site.calm()
    desks: list[Desk] = []

    def sit_down(name: str = "olga", **context: Any) -> Desk:
        desks.append(Desk(site.browser, site.gateway, cookies=site.cookies[name], **context))
        return desks[-1]

    yield sit_down
    for desk in desks:
        desk.context.close()
    assert [complaint for desk in desks for complaint in desk.complaints] == []


def card(page: Page, name: str = "MIFOS-Maker-get") -> Any:
    return page.locator(f'[id="b-{name}"]')


# -- the story ---------------------------------------------------------------------------------------------------------


def test_an_outage_as_the_operator_sees_it(site: Site, sit: Callable[..., Desk]) -> None:
    page = sit("vera").go()
    page.evaluate("window.loadedOnce = true")
    expect(page.locator(".sentence")).to_contain_text("12 of 12 closed")
    calm = page.locator("#favicon").get_attribute("href")

    waits = [seconds_until_open_is_shown(site, page)]
    while min(waits) > 1.5 and len(waits) < 3:  # a busy machine delays one of them, or two
        site.calm()
        expect(card(page).locator(".state")).to_contain_text("CLOSED")
        waits.append(seconds_until_open_is_shown(site, page))
    assert min(waits) < 1.5
    expect(page.locator(".sentence")).to_contain_text(re.compile(r"1 breaker OPEN:\s+Maker GET\s+since \d\d:\d\d:\d\d"))
    expect(page.locator(".sentence")).to_contain_text("next trial in")
    expect(page).to_have_title(re.compile("1 breaker OPEN: Maker GET"))
    assert page.locator("#favicon").get_attribute("href") != calm
    expect(card(page).locator(".counts")).to_contain_text("failures")

    site.mifos.set_faults(mode="ok")
    wait_for(lambda: call(site.gateway).status == 200, "the breaker closes")
    expect(page.locator(".sentence")).to_contain_text("12 of 12 closed")
    expect(card(page).locator(".state")).to_contain_text("CLOSED")
    assert page.evaluate("window.loadedOnce") is True


def seconds_until_open_is_shown(site: Site, page: Page) -> float:
    site.fail()
    opened = time.monotonic()
    expect(card(page).locator(".state")).to_contain_text("OPEN")
    return time.monotonic() - opened


def test_without_javascript_the_state_is_there(site: Site, sit: Callable[..., Desk]) -> None:
    site.fail()
    page = sit("vera", java_script_enabled=False).go()
    expect(page.locator(".sentence")).to_contain_text("1 breaker OPEN")
    expect(card(page).locator(".state")).to_contain_text("OPEN")
    expect(page.locator("noscript")).to_have_count(1)


def test_the_countdown_is_not_read_out_and_the_transition_is(site: Site, sit: Callable[..., Desk]) -> None:
    page = sit("vera").go()
    page.evaluate(
        """() => {
            window.heard = [];
            const regions = document.querySelectorAll("[aria-live], [role=status], [role=alert]");
            for (const region of regions)
                new MutationObserver(() => window.heard.push(region.textContent))
                    .observe(region, {childList: true, characterData: true, subtree: true});
        }"""
    )
    site.fail()
    expect(card(page).locator(".state")).to_contain_text("OPEN")
    page.wait_for_timeout(1_500)
    heard = page.evaluate("window.heard")
    assert [said for said in heard if "OPEN" in said] == ["Maker GET: OPEN"]
    assert len(heard) == len(set(heard)) < 4  # the sentence may have said before that calls fail


def test_a_breaker_that_enters_and_leaves_the_list_is_read_out(site: Site, sit: Callable[..., Desk]) -> None:
    page = sit("vera").go("/admin/breaker/?state=trouble")
    told = page.locator("#told")
    site.act("MIFOS-Maker-put", "open")
    expect(told).to_contain_text("Maker PUT: OPEN")
    site.act("MIFOS-Maker-put", "release")
    expect(told).to_contain_text(re.compile("Maker PUT: no longer shown; MIFOS"))


def test_a_transition_out_of_sight_is_read_out(site: Site, sit: Callable[..., Desk]) -> None:
    page = sit("vera").go("/admin/breaker/?q=checker")
    site.act("MIFOS-Maker-put", "open")
    expect(page.locator("#told")).to_contain_text("1 breaker OPEN: Maker PUT")


def test_focus_and_what_is_chosen_stay(site: Site, sit: Callable[..., Desk]) -> None:
    page = sit("olga").go()
    chosen = card(page, "MIFOS-Checker-post").locator("input[type=checkbox]")
    chosen.check()
    chosen.focus()
    page.locator("input[name=q]").fill("half typed")
    chosen.focus()
    site.fail()
    expect(card(page).locator(".state")).to_contain_text("OPEN")
    expect(chosen).to_be_focused()
    expect(chosen).to_be_checked()
    expect(page.locator("input[name=q]")).to_have_value("half typed")


def test_only_the_card_that_rises_is_moved(site: Site, sit: Callable[..., Desk]) -> None:
    page = sit("olga").go()
    page.evaluate(
        """() => {
            window.moved = [];
            const note = (changes) => {
                for (const { addedNodes, removedNodes } of changes)
                    for (const each of [...addedNodes, ...removedNodes])
                        if (each.dataset?.state) window.moved.push(each.id);
            };
            for (const list of document.querySelectorAll(".cards"))
                new MutationObserver(note).observe(list, { childList: true });
            getSelection().selectAllChildren(document.querySelector('[id="b-MIFOS-Maker-put"] h3'));
        }"""
    )
    site.act("MIFOS-Maker-patch", "open")
    expect(page.locator(".cards > li").first).to_have_attribute("id", "b-MIFOS-Maker-patch")
    assert set(page.evaluate("window.moved")) == {"b-MIFOS-Maker-patch"}
    assert page.evaluate("getSelection().toString()") == "Maker PUT"
    site.act("MIFOS-Maker-patch", "reset")


HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_hidden_tab_asks_seldom_and_changes_title_and_icon_alone(site: Site, sit: Callable[..., Desk]) -> None:
    desk = sit("vera")
    desk.page.clock.install()
    page = desk.go()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    calm = page.locator("#favicon").get_attribute("href")
    page.evaluate(HIDE, True)
    page.wait_for_timeout(300)
    asked.clear()
    site.act("MIFOS-Maker-get", "open")
    page.clock.run_for(10_000)
    assert asked == []

    page.clock.run_for(6_000)
    expect(page).to_have_title("▲ 1 breaker OPEN: Maker GET")
    assert page.locator("#favicon").get_attribute("href") != calm
    assert page.locator("#told").text_content() == ""
    expect(card(page).locator(".state")).to_contain_text("CLOSED")

    page.evaluate(HIDE, False)
    expect(card(page).locator(".state")).to_contain_text("OPEN")
    expect(page.locator("#told")).to_contain_text("Maker GET: OPEN")


def test_a_hidden_tab_follows_back_to_calm(site: Site, sit: Callable[..., Desk]) -> None:
    desk = sit("vera")
    desk.page.clock.install()
    page = desk.go()
    page.evaluate(HIDE, True)
    for action, title in (("open", "▲ 1 breaker OPEN: Maker GET"), ("release", re.compile("MIFOS"))):
        site.act("MIFOS-Maker-get", action)
        page.wait_for_timeout(300)  # until the other worker has heard of it
        page.clock.run_for(16_000)
        expect(page).to_have_title(title)


def test_a_lost_connection_is_said_and_recovers_by_itself(site: Site, sit: Callable[..., Desk]) -> None:
    desk = sit("vera")
    page = desk.go()
    desk.context.set_offline(True)
    expect(page.locator("#lost")).to_contain_text("connection was lost")
    desk.context.set_offline(False)
    expect(page.locator("#lost")).to_be_hidden()
    expect(page.locator("#told")).to_contain_text("Connected again.")
    desk.complaints[:] = [one for one in desk.complaints if "ERR_INTERNET_DISCONNECTED" not in one]


def test_a_gateway_that_hangs_is_told_as_soon(sit: Callable[..., Desk]) -> None:
    page = sit("vera").go()
    expect(page.locator(".store")).to_contain_text("at most 3 s old")
    page.route("**/admin/breaker/live*", lambda route: None)
    hung = time.monotonic()
    page.wait_for_function("() => !document.querySelector('#lost').hidden")
    expect(page.locator("#lost")).to_contain_text("connection was lost")
    assert time.monotonic() - hung < 4.8  # the request itself is given up after 5 s
    expect(page.locator(".store")).to_contain_text(re.compile(r"at most ([5-9]|\d\d) s old"))
    page.unroute_all()
    expect(page.locator("#lost")).to_be_hidden(timeout=10_000)
    expect(page.locator(".store")).to_contain_text("at most 3 s old")


@pytest.mark.parametrize(("back", "title"), [(4_500, False), (3_600_000, True)])
def test_a_clock_that_steps_back_does_not_freeze_the_page(
    site: Site, sit: Callable[..., Desk], back: int, title: bool
) -> None:
    page = sit("vera").go()

    def step_back(route: Route) -> None:
        answer = route.fetch(headers={**route.request.headers, "if-none-match": ""})
        at = int(answer.headers["x-breaker-at"]) - back
        route.fulfill(response=answer, headers={**answer.headers, "x-breaker-at": str(at)})

    with page.expect_response("**/admin/breaker/live*"):
        pass
    page.route("**/admin/breaker/live*", step_back)
    site.act("MIFOS-Maker-get", "open")
    if title:
        expect(page).to_have_title(re.compile("OPEN: Maker GET"))
    else:
        page.wait_for_timeout(1_600)
        assert "OPEN: Maker GET" not in page.title()
    page.unroute_all(behavior="wait")


def test_redis_that_is_away_is_said(site: Site, sit: Callable[..., Desk]) -> None:
    page = sit("vera").go()
    site.redis.pause()
    try:
        expect(page.locator(".store")).to_contain_text("not followed", timeout=8_000)
    finally:
        site.redis.resume()
    expect(page.locator(".store")).to_contain_text("followed.", timeout=8_000)
    wait_for(site.gateway.is_shared, "the state is shared")


# -- one breaker's page ------------------------------------------------------------------------------------------------

ONE = "/admin/breaker/MIFOS-Maker-get/"


@pytest.mark.parametrize("span", ["1h", "30d"])
def test_one_breakers_page_follows_an_outage(site: Site, sit: Callable[..., Desk], span: str) -> None:
    page = sit("vera").go(f"{ONE}?span={span}")
    state = page.locator("#summary .state")
    expect(state).to_contain_text("CLOSED")
    page.locator("figure .plot").first.hover()
    site.fail()
    expect(state).to_contain_text("OPEN")
    expect(page).to_have_title("▲ Maker GET: OPEN")
    expect(page.locator("#told")).to_have_text("Maker GET: OPEN")
    site.calm()
    expect(state).to_contain_text("CLOSED")


def test_one_breakers_page_says_that_the_connection_was_lost(site: Site, sit: Callable[..., Desk]) -> None:
    desk = sit("vera")
    page = desk.go(f"{ONE}?span=24h")
    desk.context.set_offline(True)
    expect(page.locator("#lost")).to_contain_text("connection was lost")
    desk.context.set_offline(False)
    expect(page.locator("#lost")).to_be_hidden()
    desk.complaints[:] = [one for one in desk.complaints if "ERR_INTERNET_DISCONNECTED" not in one]


def test_one_breakers_page_says_that_the_session_has_ended(site: Site, sit: Callable[..., Desk]) -> None:
    desk = sit("vera")
    page = desk.go(ONE)
    desk.context.clear_cookies()
    expect(page.locator("#lost")).to_contain_text("Your session has ended")
    expect(page.get_by_role("link", name="Sign in again")).to_be_visible()
    desk.complaints[:] = [one for one in desk.complaints if "401" not in one]


def test_one_breakers_page_counts_by_the_shared_clock(site: Site, sit: Callable[..., Desk]) -> None:
    site.act("MIFOS-Maker-get", "open")
    desk = sit("vera")
    desk.page.clock.install(time=time.time() + 3600)
    page = desk.go(ONE)
    expect(page.locator("#summary [data-time=since]").first).to_have_text(re.compile(r"^\d+ s$"))


# -- acting ------------------------------------------------------------------------------------------------------------

ACTS = {
    "open": ("Force open", "Forced open"),
    "close": ("Force closed", "Forced closed"),
    "disable": ("Disable", "Disabled"),
    "release": ("Release", None),
    "enable": ("Enable", None),
    "reset": ("Reset", None),
}
BEFORE = {"release": "open", "enable": "disable", "reset": "open"}


@pytest.mark.parametrize("action", ACTS)
def test_each_act_with_its_reason(site: Site, sit: Callable[..., Desk], action: str) -> None:
    title, held = ACTS[action]
    if action in BEFORE:
        site.act("MIFOS-Maker-post", BEFORE[action])
    page = sit("olga").go()
    mine = card(page, "MIFOS-Maker-post")
    mine.locator("summary").click()
    mine.get_by_role("link", name=title, exact=True).click()
    page.get_by_role("button", name=title).click()  # without a reason
    assert "/act" in page.url
    page.fill("[name=reason]", "the browser's test")
    page.get_by_role("button", name=title).click()
    expect(page.locator(".messagelist")).to_contain_text("Maker")
    mine = card(page, "MIFOS-Maker-post")
    if held:
        expect(mine.locator(".held")).to_contain_text(held)
    else:
        expect(mine.locator(".held")).to_have_count(0)
    expect(mine.locator(".when")).to_contain_text("olga: the browser's test")


def test_many_at_once_by_the_keyboard_alone(sit: Callable[..., Desk]) -> None:
    page = sit("olga").go()
    for name in ("MIFOS-Maker-post", "MIFOS-Maker-put"):
        box = card(page, name).locator("input[type=checkbox]")
        _tab_to(page, box)
        page.keyboard.press("Space")
    button = page.locator("#acts").get_by_role("button", name="Force open")
    _tab_to(page, button)
    page.keyboard.press("Enter")
    page.wait_for_url("**/act*")
    _tab_to(page, page.locator("[name=reason]"))
    page.keyboard.type("by keyboard")
    _tab_to(page, page.get_by_role("button", name="Force open"))
    page.keyboard.press("Enter")
    for name in ("MIFOS-Maker-post", "MIFOS-Maker-put"):
        expect(card(page, name).locator(".held")).to_contain_text("Forced open")


def _tab_to(page: Page, wanted: Any) -> None:
    for _ in range(150):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    pytest.fail("the keyboard does not get there")


def test_a_race_that_was_lost_is_told(site: Site, sit: Callable[..., Desk]) -> None:
    desk = sit("olga")
    page = desk.go("/admin/breaker/act?action=disable&name=MIFOS-Maker-post")
    site.act("MIFOS-Maker-post", "open", "somebody else's")
    page.fill("[name=reason]", "too late")
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    assert site.gateway.status()["maker"]["post"]["enabled"] is True
    desk.complaints[:] = [one for one in desk.complaints if "409" not in one]


def test_who_only_sees_cannot_act(site: Site, sit: Callable[..., Desk]) -> None:
    desk = sit("vera")
    page = desk.go()
    expect(page.locator(".sentence")).to_be_visible()
    assert page.locator("#acts, summary, input[type=checkbox]").count() == 0
    answer = page.goto(f"{site.gateway.url}/admin/breaker/act?action=open&name=MIFOS-Maker-post")
    assert answer is not None
    assert answer.status == 403
    desk.complaints.clear()


# -- everybody ---------------------------------------------------------------------------------------------------------

PAGES = ("/admin/breaker/", "/admin/breaker/act?action=close&name=MIFOS-Maker-post", "/admin/breaker/MIFOS-Maker-get/")


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("width", [400, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_axe_finds_no_violation(
    site: Site, sit: Callable[..., Desk], scheme: str, width: int, path: str
) -> None:
    site.fail()
    page = sit("olga", color_scheme=scheme, viewport={"width": width, "height": 900}).go(path)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    found = Axe().run(page)
    violations = [f"{one['id']}: {node['html'][:200]}" for one in found.response["violations"] for node in one["nodes"]]
    assert violations == []


# -- beside the dashboard ----------------------------------------------------------------------------------------------


@contextmanager
def slow_database(site: Site) -> Iterator[None]:
    """What is written waits until the block ends."""
    with closing(sqlite3.connect(site.gateway.log_path.with_name("db.sqlite3"), isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


def test_a_double_click_does_not_cost_the_new_token(site: Site, sit: Callable[..., Desk]) -> None:
    page = sit("boss").go("/admin/mifos_gateway/consumer/add/")
    page.fill("#id_name", "twice")
    _click_twice(site, page)
    expect(page.get_by_label("Token", exact=True)).to_have_value(re.compile("^mgw_"))

    page.get_by_role("link", name="Copied; on to the consumer").click()
    page.get_by_role("link", name="One more token").click()
    _click_twice(site, page)
    expect(page.get_by_label("Token", exact=True)).to_have_value(re.compile("^mgw_"))


def _click_twice(site: Site, page: Page) -> None:
    with slow_database(site):
        page.locator(".submit-row .default").evaluate("it => { it.click(); setTimeout(() => it.click(), 200) }")
        time.sleep(0.6)


def test_lists_of_events_and_acts_are_in_the_operator_s_zone(site: Site, sit: Callable[..., Desk]) -> None:
    site.act("MIFOS-Maker-get", "open")
    for address in ("operatoract", "breakerevent"):
        page = sit("vera", timezone_id="Asia/Tokyo").go(f"/admin/breaker/{address}/")
        newest = page.locator("#result_list time").first
        expect(newest).to_have_text(re.compile(r"^\D*\d\d:\d\d:\d\d$"))
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", newest.get_attribute("title") or "")

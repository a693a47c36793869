"""docs/screenshots/ anew, from a real gateway, its sandbox MIFOS and half a minute of traffic: `make screenshots`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser

from mifos_gateway.sandbox.server import Sandbox
from tests.acceptance.browser import Desk, chromium, sign_in
from tests.acceptance.callers import call
from tests.acceptance.gateway import CHECKOUT, Gateway, clean_environ, mifos_environ
from tests.programs import RedisServer, wait_for

FOLDER = CHECKOUT / "docs" / "screenshots"
PASSWORD = "for-the-pictures-0nly"
HURT, HELD = "MIFOS-Maker-get", "MIFOS-Checker-post"
TRAFFIC = (
    ("maker", "GET", "clients", 6),
    ("maker", "GET", "loans", 4),
    ("maker", "POST", "clients", 2),
    ("maker", "PUT", "clients/1", 1),
    ("checker", "GET", "clients", 3),
    ("checker", "POST", "clients", 1),
)
"""User, method and path of callers, and how many of them there are."""
USUAL = {"mode": "slow", "seconds": 0.04, "rate": 0.7}
PAST = """
import math
from datetime import timedelta
from random import Random
from breaker import conf, timeline
from breaker.history import pack
from breaker.models import BreakerEvent, HourSample, MinuteSample, Series
from django.contrib.auth.models import Group, User
User.objects.create_user("olga", password="%(password)s", is_staff=True).groups.add(
    Group.objects.get(name="Breaker operators"))
chance, now = Random(7), timeline.now().replace(second=0, microsecond=0)
for name in ("MIFOS-Maker-get", "MIFOS-Maker-post", "MIFOS-Checker-get"):
    series = Series.objects.create(namespace=conf.namespace(), breaker=name, store="past")
    for minute in range(6 * 60, 0, -1):
        calls = int(220 + 90 * math.sin(minute / 60) + chance.random() * 60)
        bad = calls // 2 if name == "MIFOS-Maker-get" and 150 < minute < 160 else chance.random() > .8
        slots = {300 + place: calls // 8 for place in range(0, 80, 10)}
        MinuteSample.objects.create(series=series, at=now - timedelta(minutes=minute), successes=calls - bad,
            failures=bad, latency_us=calls * 38_000, histogram=pack(slots), rolled=False)
moves = (("CLOSED", "OPEN", 160, 9e6), ("OPEN", "HALF_OPEN", 159, 6e4), ("HALF_OPEN", "OPEN", 158.9, 8e3),
    ("OPEN", "HALF_OPEN", 151, 4.7e5), ("HALF_OPEN", "CLOSED", 150.9, 5e3))
for number, (old, new, ago, lasted) in enumerate(moves):
    BreakerEvent.objects.create(namespace=conf.namespace(), rev=f"past-{number}", breaker="MIFOS-Maker-get",
        kind="transition", from_state=old, to_state=new, at=now - timedelta(minutes=ago), source="breaker",
        duration_ms=lasted)
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="make screenshots", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=35, help="of traffic before the first picture")
    seconds = parser.parse_args().seconds
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Sandbox() as mifos, chromium() as browser:
        redis = RedisServer(Path(folder))
        try:
            gateway = _gateway(Path(folder), mifos, redis)
            try:
                _take(gateway, mifos, browser, seconds)
            finally:
                gateway.stop()
        finally:
            redis.kill()


def _gateway(folder: Path, mifos: Sandbox, redis: RedisServer) -> Gateway:
    environ = clean_environ(DJANGO_DEBUG="true", DATABASE_URL=f"sqlite:///{folder / 'db.sqlite3'}")
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], env=environ, cwd=CHECKOUT, check=True)
    gateway = Gateway(folder, mifos_environ(mifos) | {"REDIS_URL": redis.url, "WEB_THREADS": "16"})
    made = gateway.manage(f"shell -v0 -c '{PAST % {'password': PASSWORD}}'")
    assert made.returncode == 0, made.stderr
    return gateway


def _take(gateway: Gateway, mifos: Sandbox, browser: Browser, seconds: float) -> None:
    cookies = sign_in(browser, gateway, "olga", PASSWORD)
    desk = Desk(browser, gateway, cookies=cookies)
    dark = Desk(browser, gateway, cookies=cookies, color_scheme="dark")
    mifos.set_faults(**USUAL)
    with _traffic(gateway):
        time.sleep(seconds)
        desk.go()
        _picture(desk, "calm")
        page = desk.go(f"/admin/breaker/act?action=open&name={HELD}")
        page.fill("[name=reason]", "Month-end close: approvals wait until the books are balanced")
        _picture(desk, "act")
        page.get_by_role("button", name="Force open").click()
        mifos.set_faults({"mode": "error", "users": ["maker"], "methods": ["GET"]}, USUAL)
        wait_for(lambda: call(gateway).status == 503, "the breaker opens")
        time.sleep(5)
        for each, name in ((desk, "outage"), (dark, "dark")):
            each.go()
            _picture(each, name)
        answer = desk.page.goto(f"{gateway.url}/admin/breaker/{HURT}/")
        if answer is not None and answer.ok:
            _picture(desk, "breaker")


def _picture(desk: Desk, name: str) -> None:
    desk.page.wait_for_timeout(2_000)  # the script has renewed the page
    path = FOLDER / f"{name}.png"
    desk.page.screenshot(path=path, full_page=True)
    print(f"{path.relative_to(CHECKOUT)}  {path.stat().st_size // 1000} kB")


@contextmanager
def _traffic(gateway: Gateway) -> Iterator[None]:
    gateway.token  # noqa: B018 - made before callers ask for it at once
    stopped = threading.Event()

    def press(user: str, method: str, path: str) -> None:
        while not stopped.wait(0.15):
            call(gateway, path, user=user, method=method)

    threads = [threading.Thread(target=press, args=each[:3]) for each in TRAFFIC for _ in range(each[3])]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()

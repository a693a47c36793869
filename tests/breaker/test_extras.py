"""Lines of other apps on the dashboard: shared, cheap, for who may see them, and no danger to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client

from breaker import extras, pages
from breaker.extras import Extra, Line, Part
from breaker.testing import Clock
from tests.breaker.watchers import BOARD, LIVE, browser, fresh_watch, operator, person, viewer, words

__all__ = ["fresh_watch", "operator", "viewer"]
pytestmark = pytest.mark.django_db
SINCE = datetime(2026, 11, 23, 14, tzinfo=UTC)


class Told:
    """What an app's line reads: `value`, or the error that it raises; each reading is counted and takes `seconds`."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.value, self.seconds, self.readings = clock, "3 letters", 0.0, 0

    def __call__(self) -> Any:
        self.readings += 1
        self.clock.advance(self.seconds)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(extras, "time", SimpleNamespace(monotonic=clock))
    return clock


@pytest.fixture
def told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(extras, "_extras", {})
    made = Told(clock)
    extras.add(
        Extra(
            "post",
            title="Letters",
            may_see=lambda user: user.get_username() != "otto",
            read=made,
            parts=lambda value: [
                Part(text=value, url="/post/?a=1&b=<2>"),
                Part(text="the oldest for", since=SINCE),
                Part(text="<none> is late", warns=True),
            ],
        )
    )
    return made


def line() -> Line | None:
    return next(iter(extras.lines(["post"])), None)


def test_a_line_is_on_the_page_and_in_the_live_answer(told: Told, viewer: Client) -> None:
    for address in (BOARD, LIVE):
        page = viewer.get(address).content.decode()
        assert '<a href="/post/?a=1&amp;b=&lt;2&gt;">3 letters</a>' in page
        assert 'datetime="2026-11-23T14:00:00.000Z"' in page
        assert "▲ <none> is late" in words(page)


def test_who_may_not_see_it_does_not_and_nothing_is_read(told: Told, operator: Client) -> None:
    for address in (BOARD, LIVE):
        assert b"letters" not in operator.get(address).content
    assert told.readings == 0


def test_two_rights_are_two_answers(told: Told, viewer: Client) -> None:
    other = browser(person("view_breaker", name="otto"))
    assert b"letters" in viewer.get(LIVE).content
    assert b"letters" not in other.get(LIVE).content


def test_an_answer_with_lines_is_made_once(told: Told, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.dashboard, "FRESH", 60.0)
    made: list[Any] = []
    board = pages.dashboard.board
    monkeypatch.setattr(pages.dashboard, "board", lambda *args: made.append(args) or board(*args))
    for _ in range(5):
        assert b"letters" in viewer.get(LIVE).content
    assert len(made) == 1


def test_a_change_is_a_new_answer(told: Told, viewer: Client, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.dashboard, "FRESH", 60.0)  # of the breakers one reading
    first = viewer.get(LIVE)
    assert viewer.get(LIVE, headers={"If-None-Match": first["ETag"]}).status_code == 304
    told.value = "4 letters"
    clock.advance(1)
    assert b"4 letters" in viewer.get(LIVE, headers={"If-None-Match": first["ETag"]}).content


def test_one_reading_serves_all_for_a_while(told: Told, clock: Clock) -> None:
    for _ in range(10):
        assert line() is not None
    assert told.readings == 1
    clock.advance(1)
    line()
    assert told.readings == 2


def test_one_that_takes_long_is_read_seldom(told: Told, clock: Clock) -> None:
    told.seconds = 0.5
    for _ in range(95):
        line()
        clock.advance(0.1)
    assert told.readings == 1


def test_nothing_to_tell_is_no_line_and_asked_for_seldom(told: Told, clock: Clock) -> None:
    told.value = None
    for _ in range(9):
        assert line() is None
        clock.advance(1)
    assert told.readings == 1


def test_what_cannot_be_read_is_told_and_recovers(told: Told, clock: Clock, viewer: Client) -> None:
    told.value = OSError("away")
    for _ in range(3):
        assert "▲ Letters: not known at present" in words(viewer.get(LIVE).content.decode())
    assert told.readings == 1
    told.value = "5 letters"
    clock.advance(extras.IDLE)
    assert "5 letters" in str(line())


def test_nobody_waits_for_another_s_reading(told: Told, clock: Clock) -> None:
    inside: list[Any] = []
    told.value = "before"
    line()
    clock.advance(1)
    read: Callable[[], Any] = extras._extras["post"]._read

    def slow() -> Any:
        inside.append(line())  # as another who comes meanwhile; would never return if it had to wait for us
        return read()

    extras._extras["post"]._read = slow
    told.value = "after"
    assert "after" in str(line())
    assert "before" in str(inside[0])


def test_words_that_cannot_be_made_break_nothing(told: Told, viewer: Client) -> None:
    told.value = 3  # not what `parts` takes: no string
    extras._extras["post"]._parts = lambda value: value + "!"
    assert "Letters: not known at present" in words(viewer.get(LIVE).content.decode())

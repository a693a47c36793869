"""One breaker's page: how it is, where its settings come from, what it was, its numbers to take away, and who may."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from breaker import detail, operations, recorder, timeline
from breaker.charts import Axis, nice, shades
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.machine import State
from breaker.exports import cell
from breaker.models import BreakerEvent
from breaker.registry import create_circuit_breaker
from breaker.testing import fail, succeed
from breaker.timeline import Span
from tests.breaker.conftest import House
from tests.breaker.watchers import BOARD, browser, operator, person, viewer

__all__ = ["operator", "viewer"]
pytestmark = pytest.mark.django_db
PAGE = "/admin/breaker/x/"


@pytest.fixture(autouse=True)
def breaker(house: House, settings: Any, monkeypatch: pytest.MonkeyPatch) -> SharedCircuitBreaker:
    settings.BREAKER = {**settings.BREAKER, "HISTORY": True}
    monkeypatch.setattr(recorder, "AT_MOST_EVERY", 0.0)
    return create_circuit_breaker(name="x", reset_timeout=10).breaker


def outage(house: House, breaker: SharedCircuitBreaker) -> None:
    """10 s within one minute: two successes, four failures."""
    house.advance(61 - timeline.now().timestamp() % 60)
    succeed(breaker)
    fail(breaker, 4)
    house.advance(10)
    succeed(breaker)
    house.advance(1)


def see(client: Client, **asked: str) -> str:
    answer = client.get(PAGE, asked)
    assert answer.status_code == 200, answer.content
    return answer.content.decode()


def words(page: str) -> str:
    """A page's text, each element apart from what is before it."""
    return re.sub(r" (?=[.,)])|(?<=\() ", "", " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split()))


def act(action: str, **more: Any) -> None:
    (done,) = operations.act(["x"], action, actor="ada", source="command", reason="a test", **more)
    assert not done.error


# -- the head ----------------------------------------------------------------------------------------------------------


def test_the_dashboard_finds_it_by_its_name() -> None:
    assert reverse("admin:breaker_breaker_detail", args=["x"]) == PAGE


def test_a_closed_breaker(viewer: Client) -> None:
    said = words(see(viewer))
    assert "● CLOSED since" in said
    assert "An operator says nothing By itself CLOSED Judgement too little traffic to judge" in said


def test_an_open_breaker(house: House, breaker: SharedCircuitBreaker, viewer: Client) -> None:
    fail(breaker, 5)
    house.advance(4)
    said = words(see(viewer))
    assert "▲ OPEN since" in said
    assert re.search(r"\(4 s\) next trial in 6 s", said)
    assert "Judgement failing Errors now 100.0 % opens above 50 %" in said


def test_the_latency_of_now(house: House, breaker: SharedCircuitBreaker, viewer: Client) -> None:
    assert "Calls in the window 0 p50 / p95 / p99 - / - / -" in words(see(viewer))
    for seconds in (0.1, 0.2, 4.0):
        breaker.call(house.advance, seconds)
    assert "Calls in the window 3 p50 / p95 / p99 201 ms / 3.96 s / 3.96 s" in words(see(viewer))


def test_the_operators_word_beside_the_computed_state(
    house: House, breaker: SharedCircuitBreaker, viewer: Client
) -> None:
    act("open", for_seconds=600)
    said = words(see(viewer))
    assert re.search(
        r"An operator says forced open, until \S+ UTC \(10 min\) By itself CLOSED Judgement forced open", said
    )


def test_disabled_and_forced_are_both_shown(viewer: Client) -> None:
    act("open", for_seconds=600)
    act("disable")
    head = words(see(viewer))
    assert re.search(
        r"An operator says disabled, until released; forced open, until \S+ UTC \(10 min\) By itself", head
    )


def test_what_the_options_say_is_not_put_down_to_an_operator(viewer: Client) -> None:
    create_circuit_breaker(name="y", enabled=False)
    other = "/admin/breaker/y/"
    assert "An operator says nothing Its options say disabled By" in words(viewer.get(other).content.decode())
    operations.act(["y"], "enable", actor="ada", source="command", reason="a test")
    assert "An operator says enabled, until released Its" in words(viewer.get(other).content.decode())
    assert "Its options say" not in words(see(viewer))


def test_who_operates_gets_the_acts_that_fit(viewer: Client, operator: Client) -> None:
    link = "/admin/breaker/act?action=open&amp;name=x"
    assert link in see(operator)
    assert "act?action" not in see(viewer)


# -- kept live ---------------------------------------------------------------------------------------------------------

LIVE = PAGE + "live"


@pytest.mark.parametrize("span", detail.SPANS)
def test_the_page_says_whom_its_script_asks_and_what_time_it_is(house: House, viewer: Client, span: str) -> None:
    house.advance(3600)  # ahead of the browser's clock
    page = see(viewer, span=span)
    (now,) = re.findall(rf'<div id="live" data-live="{LIVE}" data-login="/admin/login/" data-now="(\d+)">', page)
    assert int(now) == pytest.approx(timeline.now().timestamp() * 1000, abs=1)


def test_the_time_is_a_number_in_a_language_that_parts_thousands(viewer: Client, settings: Any) -> None:
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = "de", True
    assert re.search(r'data-now="\d+"', see(viewer))


def test_what_is_now_comes_alone_and_says_when_it_was_read(house: House, operator: Client) -> None:
    act("open")
    answer = operator.get(LIVE)
    assert words(answer.content.decode()).startswith("▲ OPEN since")
    assert b'id="act-release"' in answer.content
    assert int(answer["X-Breaker-At"]) == pytest.approx(timeline.now().timestamp() * 1000, abs=1000)


def test_what_only_counts_on_is_not_sent_again(house: House, breaker: SharedCircuitBreaker, viewer: Client) -> None:
    fail(breaker, 5)
    etag = viewer.get(LIVE)["ETag"]
    house.advance(1)
    same = viewer.get(LIVE, headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    act("reset")
    assert viewer.get(LIVE, headers={"If-None-Match": etag}).status_code == 200


def test_the_tab_tells_of_trouble(breaker: SharedCircuitBreaker, viewer: Client) -> None:
    assert 'id="summary" data-title="x" data-tone="calm"' in viewer.get(LIVE).content.decode()
    fail(breaker, 5)
    assert 'data-title="▲ x: OPEN" data-tone="trouble"' in viewer.get(LIVE).content.decode()
    assert "<title>▲ x: OPEN</title>" in see(viewer)
    act("disable")
    assert 'data-title="○ x: DISABLED" data-tone="watch"' in viewer.get(LIVE).content.decode()


def test_what_is_now_is_not_for_who_may_not_see(client: Client) -> None:
    assert client.get(LIVE).status_code == 401
    assert browser(person(name="nora")).get(LIVE).status_code == 403


def test_what_is_now_needs_no_database(viewer: Client) -> None:
    viewer.get(LIVE)
    with CaptureQueriesContext(connection) as asked:
        viewer.get(LIVE)
    assert len(asked) == 0


@pytest.mark.parametrize("place", [BOARD, f"{PAGE}?span=30d"])
def test_a_language_that_parts_thousands_by_dots_leaves_scripts_and_charts_their_numbers(
    house: House, breaker: SharedCircuitBreaker, viewer: Client, settings: Any, place: str
) -> None:
    settings.LANGUAGE_CODE, settings.USE_THOUSAND_SEPARATOR = "de", True
    succeed(breaker, 1200)
    house.advance(1)
    page = viewer.get(place).content.decode()

    assert ">1.200<" in page
    numbers = re.findall(r' (data-[\w-]+|id|[xyd]|width|height|viewBox)="([^"]*\d[^"]*)"', page)
    assert {"data-now", "data-step"} & {name for name, _value in numbers}
    assert [each for each in numbers if re.search(r",|^\d+(\.\d{3})+$", each[1])] == []


# -- who may, and what there is ----------------------------------------------------------------------------------------


def test_only_staff_with_the_permission(client: Client) -> None:
    assert client.get(PAGE).status_code == 302
    assert browser(person(name="nora")).get(PAGE).status_code == 403
    assert browser(person("view_breaker", staff=False, name="kim")).get(PAGE).status_code == 302


def test_an_unknown_breaker_is_told_with_the_closest_name(viewer: Client) -> None:
    create_circuit_breaker(name="MIFOS-Maker-post")
    answer = viewer.get("/admin/breaker/MIFOS-Maker-pots/")
    assert answer.status_code == 404
    assert "The closest is MIFOS-Maker-post." in words(answer.content.decode())


def test_what_can_be_no_name_is_not_looked_up(viewer: Client) -> None:
    """PostgreSQL answers a NUL with an error."""
    with CaptureQueriesContext(connection) as asked:
        assert viewer.get("/admin/breaker/a%00b/").status_code == 404
    assert [query["sql"] for query in asked if "breaker_breakerevent" in query["sql"]] == []


def test_a_name_that_needs_quoting(viewer: Client) -> None:
    answer = viewer.get("/admin/breaker/%3Cscript%3Ealert(1)%3C%2Fscript%3E/")
    assert answer.status_code == 404
    assert b"<script>alert" not in answer.content
    create_circuit_breaker(name="a.b:c_d")
    assert viewer.get(reverse("admin:breaker_breaker_detail", args=["a.b:c_d"])).status_code == 200


@pytest.mark.parametrize("name", ["live", "act", "breaker"])
def test_a_name_beside_the_admins_own_addresses_has_a_page(viewer: Client, name: str) -> None:
    create_circuit_breaker(name=name)
    answer = viewer.get(reverse("admin:breaker_breaker_detail", args=[name]))
    assert (answer.status_code, answer.context["name"]) == (200, name)


def test_one_failure_is_one_failure(viewer: Client) -> None:
    BreakerEvent.objects.create(
        namespace=timeline.conf.namespace(),
        rev="1",
        breaker="x",
        from_state="CLOSED",
        to_state="OPEN",
        at=timeline.now(),
        counts={"failures": 1, "timeouts": 1, "errorRate": 66.67},
    )
    assert "1 failure, 1 timeout, 66.67 %" in words(see(viewer))


def test_the_apps_own_pages_are_not_taken_for_breakers(admin_client: Client) -> None:
    assert "operator's act" in words(admin_client.get("/admin/breaker/operatoract/").content.decode())


def test_a_breaker_that_is_gone_keeps_its_history(viewer: Client) -> None:
    BreakerEvent.objects.create(
        namespace=timeline.conf.namespace(),
        rev="1",
        breaker="gone",
        kind="transition",
        from_state="CLOSED",
        to_state="OPEN",
        at=timeline.now() - timedelta(minutes=5),
        source="breaker",
    )
    said = words(viewer.get("/admin/breaker/gone/").content.decode())
    assert "No process has shown this breaker for a day" in said
    assert "CLOSED → OPEN" in said


def test_the_page_lives_without_the_database(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(timeline, "history", away)
    said = words(see(viewer))
    assert "The history is away" in said
    assert "● CLOSED since" in said
    assert "A call may take timeout 30 s default" in said
    assert "A trial follows after reset_timeout 10 s code" in said
    assert viewer.get(PAGE, {"format": "csv"}).status_code == 503


def test_without_the_shared_store(house: House, viewer: Client) -> None:
    house.lose_store()
    assert "● CLOSED since" in words(see(viewer))


# -- history -----------------------------------------------------------------------------------------------------------


def test_what_a_span_sums_up(house: House, breaker: SharedCircuitBreaker, viewer: Client) -> None:
    outage(house, breaker)
    said = words(see(viewer))
    assert re.search(r"Available 99\.\d+ % Openings 1 Open in all 10 s Longest outage 10 s", said)
    assert "Mean time to recovery 10 s" in said


@pytest.mark.parametrize("span", detail.SPANS)
def test_each_span_has_its_charts(house: House, breaker: SharedCircuitBreaker, viewer: Client, span: str) -> None:
    outage(house, breaker)
    page = see(viewer, span=span)
    assert [*re.findall(r'<title id="t-(\w+)">', page)] == ["states", "errors", "latency", "outcomes"]
    assert re.findall(r'class="data errorRate" d="M[\d.]+ 33\.3h\.1', page), "four of six completed calls failed"
    assert page.count('<rect class="shade-open"') == 3
    assert re.search(r'<path class="threshold" d="M0 50\.0h1000"', page)
    assert f'href="?span={span}" aria-current="true"' in page


def test_what_differs_in_a_chart_differs_not_by_colour_alone(
    house: House, breaker: SharedCircuitBreaker, viewer: Client
) -> None:
    fail(breaker, 5)
    house.advance(10)
    page = see(viewer)
    hatched = set(re.findall(r'<\w+ class="(?:data |shade-)(\w+)" fill="url\(#hatch-\1\)"', page))
    assert hatched == set(re.findall(r'<pattern id="hatch-(\w+)"', page)) == {"timeouts", "rejects", "half"}


def test_a_chart_says_in_words_what_it_shows(house: House, breaker: SharedCircuitBreaker, viewer: Client) -> None:
    outage(house, breaker)
    page = see(viewer)
    assert "66.7 % of the completed calls failed; at worst" in page
    assert "2 successes, 4 failures, 0 timeouts, 0 rejects." in page


def test_a_page_needs_no_inline_style_or_script(house: House, breaker: SharedCircuitBreaker, operator: Client) -> None:
    outage(house, breaker)
    page = see(operator)
    assert not re.search(r"\sstyle=|<style|\son\w+=", page)
    assert not re.search(r"<script(?![^>]*src=)[^>]*>\s*\S", page)


def test_events_newest_first_filtered_and_in_pages(
    house: House, breaker: SharedCircuitBreaker, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage(house, breaker)
    act("disable")
    monkeypatch.setattr(detail, "EVENTS_ON_A_PAGE", 3)
    said = words(see(viewer))
    assert said.index("HALF_OPEN → CLOSED") < said.index("OPEN → HALF_OPEN")
    assert "4 events, page 1 of 2" in said
    assert "CLOSED → OPEN" in words(see(viewer, p="2"))
    assert "ada (command): a test" in words(see(viewer, kind="operation"))
    assert "1 event" in words(see(viewer, kind="operation"))
    house.advance(1000)
    assert "0 events" in words(see(viewer, span="15m"))
    assert "4 events" in words(see(viewer, span="15m", ever="1"))


def test_the_list_of_states_ends_somewhere(
    house: House, breaker: SharedCircuitBreaker, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    outage(house, breaker)
    monkeypatch.setattr(detail, "STATES", 3)
    said = words(see(viewer))
    assert "1 more before that" in said
    assert said.index("● CLOSED from") < said.index("▲ OPEN from")


def test_odd_questions_are_answered_as_if_not_asked(viewer: Client) -> None:
    for asked in ({"span": "1y"}, {"kind": "x"}, {"p": "-1"}, {"p": "x" * 99}, {"format": "exe"}):
        see(viewer, **asked)


# -- numbers to take away ----------------------------------------------------------------------------------------------


def saved(client: Client, **asked: str) -> Any:
    answer = client.get(PAGE, asked)
    assert answer.status_code == 200
    assert "attachment" in answer["Content-Disposition"]
    return b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]


def test_numbers_as_csv_and_json(house: House, breaker: SharedCircuitBreaker, viewer: Client) -> None:
    outage(house, breaker)
    rows = list(csv.DictReader(io.StringIO(saved(viewer, format="csv", of="numbers"))))
    told = json.loads(saved(viewer, format="json", of="numbers"))
    assert len(rows) == len(told) in (60, 61)
    assert sum(int(row["failures"]) for row in rows) == sum(row["failures"] for row in told) == 4
    assert rows[0]["errorRate"] == ""
    assert told[0]["errorRate"] is None
    states = json.loads(saved(viewer, format="json", of="states"))
    assert [row["state"] for row in states] == ["CLOSED", "OPEN", "HALF_OPEN", "CLOSED"]
    assert states[1]["seconds"] == pytest.approx(10, abs=0.5)


def test_a_formula_is_no_formula_in_a_csv(viewer: Client) -> None:
    (done,) = operations.act(["x"], "disable", actor="@ada", source="command", reason="=cmd|' /C calc'!A0")
    assert not done.error
    (row,) = csv.DictReader(io.StringIO(saved(viewer, format="csv", of="events")))
    assert (row["reason"], row["actor"]) == ("'=cmd|' /C calc'!A0", "'@ada")


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1"])
def test_cells(text: str) -> None:
    assert cell(text) == f"'{text}"
    assert (cell(-1.5), cell("fine"), cell(None)) == (-1.5, "fine", "")


# -- geometry ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("highest", "top"), [(0, 1), (0.3, 0.4), (1, 1), (3, 4), (61, 80), (100, 100), (1204, 2000)])
def test_the_top_of_a_scale(highest: float, top: float) -> None:
    assert nice(highest) == pytest.approx(top)


def test_a_month_of_flapping_is_drawn_in_few_shades() -> None:
    now = timeline.now()
    since = now - timedelta(days=30)
    axis = Axis(since=since, until=now, step=timedelta(hours=4))
    step = timedelta(minutes=2)
    spans = [
        Span(state=State.OPEN if n % 2 else State.CLOSED, since=since + n * step, until=since + (n + 1) * step)
        for n in range(21_600)
    ]
    assert len(shades(axis, spans)) <= 1000

"""Events and history over REST: pages, filters, and who may see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from breaker import conf, history, operations, timeline
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.history import hour_of
from breaker.models import BreakerEvent, HourSample, MinuteSample, Series
from breaker.registry import create_circuit_breaker
from breaker.testing import fail, succeed
from breaker.timeline import moment
from mifos_gateway.token_memory import memory
from tests.breaker.conftest import House
from tests.breaker.test_api import act, ask

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def breaker(house: House, settings: Any) -> SharedCircuitBreaker:
    memory.forget()
    settings.BREAKER = {**settings.BREAKER, "HISTORY": True}
    return create_circuit_breaker(name="x", reset_timeout=10).breaker


def see(path: str) -> Any:
    answer = ask(path, view=True)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_an_event_has_the_documented_fields(house: House, breaker: SharedCircuitBreaker) -> None:
    fail(breaker, 5)
    page = see("x/events")
    assert [*page] == ["count", "next", "previous", "results"]
    (event,) = page["results"]
    assert [*event] == [
        *("id", "breaker", "kind", "operation", "from", "to", "at", "actor", "source", "reason", "counts"),
        *("durationMs", "alone"),
    ]
    assert (event["breaker"], event["kind"], event["operation"]) == ("x", "transition", None)
    assert (event["from"], event["to"], event["source"], event["actor"]) == ("CLOSED", "OPEN", "breaker", None)
    assert event["counts"]["failures"] == 5


def test_an_act_is_one_event_and_never_a_transition() -> None:
    act("x/open", reason="an upgrade", forSeconds=600)
    (event,) = see("events")["results"]
    assert (event["kind"], event["operation"], event["actor"], event["source"]) == ("operation", "open", "desk", "api")
    assert (event["from"], event["to"], event["reason"]) == ("CLOSED", "OPEN", "an upgrade")
    assert isinstance(event["durationMs"], int)


def test_events_come_newest_first_in_pages(house: House, breaker: SharedCircuitBreaker) -> None:
    for _ in range(3):
        fail(breaker, 5)
        house.advance(10)
        succeed(breaker)
        house.advance(1)
    first = see("x/events?page_size=4")
    assert (first["count"], len(first["results"])) == (9, 4)
    assert first["results"][0]["to"] == "CLOSED"
    path = first["next"].partition("/api/v1/circuit-breaker/")[2]
    assert len(see(path)["results"]) == 4


def test_events_can_be_filtered(house: House, breaker: SharedCircuitBreaker) -> None:
    create_circuit_breaker(name="y")
    fail(breaker, 5)
    house.advance(5)
    act("y/disable")
    everything = see("events")["results"]
    assert [event["breaker"] for event in everything] == ["y", "x"]
    assert [event["breaker"] for event in see("events?kind=operation")["results"]] == ["y"]
    assert [event["breaker"] for event in see("events?breaker=x")["results"]] == ["x"]
    newest = everything[0]["at"]
    assert [event["breaker"] for event in see(f"events?since={newest}")["results"]] == ["y"]
    assert [event["breaker"] for event in see(f"events?until={newest}")["results"]] == ["x"]
    assert [event["breaker"] for event in see(f"events?since={everything[1]['id']}")["results"]] == ["y"]
    assert len(see("events?since=1h")["results"]) == 2


def test_history_has_the_documented_points(house: House, breaker: SharedCircuitBreaker) -> None:
    succeed(breaker, 3)
    fail(breaker, 4)
    house.advance(3)
    page = see("x/history")
    assert [*page] == ["count", "next", "previous", "results"]
    assert page["count"] == len(page["results"]) in (60, 61)
    point = next(point for point in page["results"] if point["fires"])
    assert [*point] == [
        *("at", "fires", "successes", "failures", "timeouts", "rejects", "fallbacks", "latencyMean"),
        *("p50", "p95", "p99", "secondsOpen"),
    ]
    assert (point["fires"], point["successes"], point["failures"]) == (7, 3, 4)
    assert sum(point["secondsOpen"] for point in page["results"]) == pytest.approx(3, abs=0.5)


def test_history_of_a_chosen_span_and_step(house: House, breaker: SharedCircuitBreaker) -> None:
    succeed(breaker)
    now = timeline.now()
    since = (now - timedelta(hours=3)).isoformat().replace("+00:00", "Z")
    page = see(f"x/history?from={since}&to={now.timestamp() + 60}&step=3600")
    assert len(page["results"]) in (4, 5)
    assert sum(point["fires"] for point in page["results"]) == 1


@pytest.mark.parametrize("query", ["from=45d&to=44d", "from=45d&to=44d&step=3600"])
def test_of_what_is_older_than_the_minutes_there_are_hours(query: str) -> None:
    series = Series.objects.create(namespace=conf.namespace(), breaker="x", store="s")
    at = hour_of(timeline.now() - timedelta(days=44, hours=2))
    HourSample.objects.create(series=series, at=at, successes=60)
    assert sum(point["fires"] for point in see(f"x/history?{query}")["results"]) == 60


@pytest.mark.parametrize("query", ["from=7d&step=1800", "from=29d&step=3600"])
def test_a_week_may_be_read_by_the_minute_and_more_by_the_hour(query: str) -> None:
    assert see(f"x/history?{query}")["count"] > 300


def test_minutes_are_there_for_as_long_as_the_settings_say() -> None:
    since = timeline.now() - timedelta(days=30)
    series = Series.objects.create(namespace=conf.namespace(), breaker="x", store="s")
    MinuteSample.objects.create(series=series, at=since.replace(second=0, microsecond=0), successes=7, rolled=True)
    history.prune(int(timeline.now().timestamp() * 1000))
    page = see(f"x/history?from=30d&to={(since + timedelta(hours=1)).timestamp()}&step=60")
    assert page["results"][0]["fires"] == 7


@pytest.mark.parametrize("query", ["from=1970-01-01&to=2200-12-31", "from=400d", "from=360d", "from=7d"])
def test_a_step_that_nobody_has_chosen_keeps_to_few_points(query: str, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(20):
        assert 100 < see(f"x/history?{query}")["count"] <= timeline.FEW_POINTS + 1


def test_a_long_span_reads_no_more_than_is_kept(breaker: SharedCircuitBreaker) -> None:
    succeed(breaker)
    with CaptureQueriesContext(connection) as asked:
        see("x/history?from=1970-01-01&to=2200-12-31")
    samples = [query["sql"] for query in asked if "sample" in query["sql"] and "SELECT" in query["sql"]]
    assert samples
    assert [sql for sql in samples if "'1970-" in sql or "'2200-" in sql] == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=yesterday", "from='yesterday'"),
        ("from=2026-13-01T00:00:00Z", "from='2026-13-01T00:00:00Z'"),
        ("to=&from=0h", "from="),
        ("step=61", "step=61"),
        ("from=1d&step=5400", "step=5400: above an hour whole hours are needed; take 3600 or 7200"),
        ("from=9d&step=86460", "step=86460: above an hour whole hours are needed; take 86400 or 90000"),
        ("from=45d&to=44d&step=300", "step=300: minutes are kept for 30 days, and hours for longer; take 3600 or"),
        ("from=30d&step=1800", "step=1800: reads more than 10140 minutes; take 3600 or more, or a shorter span"),
        ("step=abc", "step='abc'"),
        ("step=-60", "step=-60"),
        ("from=30d&step=60", "step=60"),
        ("step=86400000000000", "step=86400000000000: whole minutes are needed, in seconds, such as 60; at most"),
        ("from=1970-01-01&to=2200-12-31&step=315360000", "step=315360000"),
        ("to=0001-01-01", "to='0001-01-01': a time of the years 1970 to 2200, such as 2026-11-23T14:00:00Z, or how"),
        ("to=0001-01-01T00:30:00Z", "of the years 1970 to 2200"),
        ("from=0001-01-01&to=9999-12-31", "to='9999-12-31'"),
        ("from=1969-12-31T23:59:59Z", "from='1969-12-31T23:59:59Z'"),
        ("from=400000d", "from='400000d'"),
        ("to=2201-01-01", "to='2201-01-01'"),
    ],
)
def test_what_cannot_be_read_is_named(query: str, said: str) -> None:
    answer = ask(f"x/history?{query}", view=True)
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_more_changes_than_one_question_reads_are_refused(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        fail(breaker, 5)
        house.advance(10)
        succeed(breaker)
        house.advance(1)
    monkeypatch.setattr(timeline, "MOST_MOVES", 9)
    assert see("x/history?from=1h")["count"] > 0
    monkeypatch.setattr(timeline, "MOST_MOVES", 8)
    answer = ask("x/history?from=1h", view=True)
    assert answer.status_code == 400
    assert "x changed more than 8 times since; take a shorter span" in answer.json()["message"]


@pytest.mark.parametrize(
    "query",
    [
        *("since=tomorrow", "kind=opening", "until=9h9"),
        *("since=0001-01-01T00:00:00+12:00", "since=9999-12-31T23:59:59-12:00", f"since={'9' * 5000}"),
    ],
)
def test_an_event_filter_that_cannot_be_read_is_named(query: str) -> None:
    answer = ask(f"events?{query.replace('+', '%2B')}", view=True)
    assert answer.status_code == 400
    assert query.partition("=")[2] in answer.json()["message"]


@pytest.mark.parametrize("path", ["events", "x/events", "x/history"])
def test_only_who_may_see_sees(path: str) -> None:
    assert ask(path).status_code == 401
    assert ask(path, maker=True, checker=True).status_code == 403
    assert ask(path, operate=True).status_code == 200


@pytest.mark.parametrize(
    "path", ["a%00b", "a%00b/events", "a%00b/history", "events?breaker=a%00b", f"{'a' * 101}/events", "%20/history"]
)
def test_what_can_be_no_name_is_not_looked_up(path: str) -> None:
    """PostgreSQL answers a NUL with an error."""
    with CaptureQueriesContext(connection) as asked:
        answer = ask(path, view=True)
    assert answer.status_code == (200 if "breaker=" in path else 404)
    assert answer.status_code == 404 or answer.json()["count"] == 0
    assert [query["sql"] for query in asked if '"breaker" =' in query["sql"]] == []


@pytest.mark.parametrize("path", ["nobody/events", "nobody/history"])
def test_a_breaker_that_never_was_is_404(path: str) -> None:
    answer = ask(path, view=True)
    assert answer.status_code == 404
    assert "nobody" in answer.json()["message"]


def test_the_events_of_a_breaker_that_is_gone_are_still_there() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    BreakerEvent.objects.create(namespace=conf.namespace(), rev="1", breaker="old", to_state="OPEN", at=at)
    assert see("old/events")["count"] == 1


def test_a_database_that_is_away_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(timeline, "events", away)
    answer = ask("events", view=True)
    assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2026-11-23T14:00:00Z", datetime(2026, 11, 23, 14, tzinfo=UTC)),
        ("2026-11-23T15:00:00+01:00", datetime(2026, 11, 23, 14, tzinfo=UTC)),
        ("2026-11-23T15:00:00 01:00", datetime(2026, 11, 23, 14, tzinfo=UTC)),
        ("2026-11-23T14:00:00", datetime(2026, 11, 23, 14, tzinfo=UTC)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("1795442400", datetime(2026, 11, 23, 14, tzinfo=UTC)),
        ("1795442400000", datetime(2026, 11, 23, 14, tzinfo=UTC)),
    ],
)
def test_times_as_people_and_tools_write_them(given: str, meant: datetime) -> None:
    assert moment("since", given) == meant


def test_a_page_that_is_not_there_is_404() -> None:
    assert ask("events?page=7", view=True).status_code == 404


def test_acts_of_commands_are_events_too() -> None:
    operations.act(["x"], "reset", actor="root", source="command", reason="a drill")
    assert see("x/events")["results"][0]["source"] == "command"

"""Acting in the admin: asked first, done once, told to all; never by a GET, nor over what has changed meanwhile."""

import importlib
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import DatabaseError, connection
from django.test import Client
from django.utils import timezone

from breaker import operations, pages, queries
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.sync import Sync
from breaker.models import OperatorAct
from breaker.registry import create_circuit_breaker
from breaker.testing import fail, rejected
from tests.breaker.conftest import House
from tests.breaker.watchers import ACT, BOARD, browser, fresh_watch, operator, person, viewer, words

__all__ = ["fresh_watch", "operator", "viewer"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def breaker(house: House) -> SharedCircuitBreaker:
    return create_circuit_breaker(name="x").breaker


def asked(client: Client, action: str, *names: str) -> dict[str, Any]:
    """The form as the operator gets it, filled in with a reason and what it proposes."""
    page = client.get(ACT, {"action": action, "name": names or ("x",)}).content.decode()
    form = re.findall(r'<form method="post" action="/admin/breaker/act".*?</form>', page, re.DOTALL)[0]
    given: dict[str, Any] = {"reason": "MIFOS is being upgraded"}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form):
        given.setdefault(name, []).append(value)
    if proposed := re.search(r'name="lasts" value="(\w+)"[^>]*checked', form):
        given["lasts"] = proposed[1]
    return given


def entry(name: str = "x") -> queries.Entry:
    (found,) = queries.status([name]).entries
    return found


def no_acts() -> bool:
    return not OperatorAct.objects.exists() and not LogEntry.objects.exists()


def seconds_left(name: str = "x") -> float:
    found = entry(name)
    until = found.snapshot.force_until if found.enabled else found.snapshot.switch_until
    assert until is not None
    return (until - found.now) / 1000


# -- the six -----------------------------------------------------------------------------------------------------------


def test_an_act_holds_and_leaves_its_traces(operator: Client, breaker: SharedCircuitBreaker) -> None:
    answer = operator.post(ACT, asked(operator, "open"), follow=True)
    assert answer.redirect_chain == [(BOARD, 302)]
    assert "Force open, until released: x. All workers follow within 100 ms." in words(answer.content.decode())
    assert rejected(breaker)
    row = OperatorAct.objects.get()
    assert (row.breaker, row.action, row.actor, row.source, row.reason) == (
        "x",
        "open",
        "otto",
        "admin",
        "MIFOS is being upgraded",
    )
    log = LogEntry.objects.get()
    assert (log.object_repr, log.user.get_username()) == ("x", "otto")
    assert log.get_change_message() == (
        "Force open, until released: MIFOS is being upgraded (CLOSED → OPEN, forced open); by otto, admin"
    )


@pytest.mark.parametrize("action", operations.ACTIONS)
def test_each_act_can_be_done(operator: Client, breaker: SharedCircuitBreaker, action: str) -> None:
    operator.post(ACT, asked(operator, action))
    assert [row.action for row in OperatorAct.objects.filter(status="applied")] == [action]


def test_several_at_once(operator: Client, house: House) -> None:
    for name in ("x", "y", "z"):
        create_circuit_breaker(name=name)
    operator.post(ACT, asked(operator, "open", "x", "y"))
    assert [entry(name).forced for name in ("x", "y", "z")] == ["open", "open", None]
    assert sorted(log.object_repr for log in LogEntry.objects.all()) == ["x", "y"]


@pytest.mark.parametrize("action", ["close", "disable"])
def test_what_leaves_calls_unguarded_lasts_an_hour_and_warns(
    operator: Client, breaker: SharedCircuitBreaker, action: str
) -> None:
    page = operator.get(ACT, {"action": action, "name": "x"}).content.decode()
    assert 'class="means warning"' in page
    operator.post(ACT, asked(operator, action))
    assert seconds_left() == pytest.approx(3600, abs=1)


@pytest.mark.parametrize(("lasts", "seconds"), [("300", 300), ("3600", 3600)])
def test_how_long(operator: Client, breaker: SharedCircuitBreaker, lasts: str, seconds: int) -> None:
    operator.post(ACT, asked(operator, "open") | {"lasts": lasts})
    assert seconds_left() == pytest.approx(seconds, abs=1)


@pytest.mark.parametrize("offset", [0, -330, 300])
def test_until_a_time_in_the_operators_zone(operator: Client, breaker: SharedCircuitBreaker, offset: int) -> None:
    then = timezone.now() + timedelta(hours=2)
    there = f"{then - timedelta(minutes=offset):%Y-%m-%dT%H:%M:%S}"
    operator.post(ACT, asked(operator, "open") | {"lasts": "time", "until": there, "offset": offset})
    assert seconds_left() == pytest.approx(7200, abs=3)
    (told,) = re.findall(r"until ([0-9: -]+) UTC", LogEntry.objects.get().get_change_message())
    # The host's clock may have been set since this process began, and the engine in memory does not follow that.
    assert abs(datetime.fromisoformat(f"{told}+00:00") - then) < timedelta(minutes=15)


@pytest.mark.parametrize(("offset", "zone"), [(0, "UTC"), (-330, "UTC+05:30"), (300, "UTC-05:00"), ("", "UTC")])
def test_it_is_told_until_when_as_the_operator_gave_it(
    operator: Client, breaker: SharedCircuitBreaker, offset: int | str, zone: str
) -> None:
    there = timezone.now() + timedelta(hours=2, minutes=-int(offset or 0))
    given = {"lasts": "time", "until": f"{there:%Y-%m-%dT%H:%M}", "offset": offset}
    answer = operator.post(ACT, asked(operator, "open") | given, follow=True)
    assert f"Force open, until {there:%Y-%m-%d %H:%M} {zone}: x." in words(answer.content.decode())


def test_reset_and_release_ask_for_no_duration(operator: Client, breaker: SharedCircuitBreaker) -> None:
    for action in ("reset", "release"):
        assert b'name="lasts"' not in operator.get(ACT, {"action": action, "name": "x"}).content


def test_forced_and_computed_stand_side_by_side(operator: Client, breaker: SharedCircuitBreaker) -> None:
    fail(breaker, 5)
    operator.post(ACT, asked(operator, "close"))
    text = words(operator.get(ACT, {"action": "release", "name": "x"}).content.decode())
    assert "x ● CLOSED, forced closedOPEN100.0 %" in text


def test_enable_says_that_it_closes(operator: Client, breaker: SharedCircuitBreaker) -> None:
    text = words(operator.get(ACT, {"action": "enable", "name": "x"}).content.decode())
    assert "It closes, also if it was open, and counts afresh." in text


@pytest.mark.parametrize(
    ("action", "before", "told"),
    [
        ("open", "open", "is forced open already"),
        ("close", "close", "is forced closed already"),
        ("release", None, "has nothing to release; closes, though by itself it is OPEN"),
        ("release", "close", "closes, though by itself it is OPEN"),
        ("disable", "disable", "is disabled already"),
        ("enable", None, "is enabled already; closes, though by itself it is OPEN"),
        ("enable", "disable", "closes, though by itself it is OPEN"),
    ],
)
def test_what_an_act_does_not_do_or_does_besides_is_marked_at_each(
    operator: Client, breaker: SharedCircuitBreaker, action: str, before: str | None, told: str
) -> None:
    fail(breaker, 5)
    if before:
        operations.act(["x"], before, actor="ada", source="command", reason="before")
    page = words(operator.get(ACT, {"action": action, "name": "x"}).content.decode())
    assert f"%▲ {told}" in page.split("Note")[1]


def test_what_an_act_does_to_is_not_marked(operator: Client, breaker: SharedCircuitBreaker) -> None:
    for action in ("open", "close", "disable", "reset"):
        assert "%▲" not in words(operator.get(ACT, {"action": action, "name": "x"}).content.decode())


# -- what is not done --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_without_a_reason_nothing_is_done(operator: Client, breaker: SharedCircuitBreaker, reason: str) -> None:
    answer = operator.post(ACT, asked(operator, "open") | {"reason": reason})
    assert "Say why, for those who read it later." in words(answer.content.decode())
    assert no_acts()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lasts": "forever"}, "Select a valid choice"),
        ({"lasts": ""}, "This field is required"),
        ({"lasts": "time"}, "Say until when."),
        ({"lasts": "time", "until": "soon"}, "Enter a valid date/time."),
        ({"lasts": "time", "until": "2001-01-01T00:00"}, "That time has passed."),
        ({"lasts": "time", "until": "2101-01-01T00:00"}, "At most 366 days."),
        ({"lasts": "time", "until": "9999-12-31T23:59", "offset": "1439"}, "At most 366 days."),
    ],
)
def test_a_bad_duration(operator: Client, breaker: SharedCircuitBreaker, given: dict[str, str], said: str) -> None:
    answer = operator.post(ACT, asked(operator, "open") | given)
    assert said in words(answer.content.decode())
    assert no_acts()


def test_a_get_never_acts(operator: Client, breaker: SharedCircuitBreaker) -> None:
    assert operator.get(ACT, asked(operator, "open")).status_code == 200
    assert no_acts()
    assert entry().forced is None


def test_those_chosen_are_asked_about_first(operator: Client, breaker: SharedCircuitBreaker) -> None:
    answer = operator.post(ACT, {"action": "open", "name": ["x"], "reason": "none was asked for"})
    assert b'name="confirmed"' in answer.content
    assert no_acts()


def test_csrf_is_enforced(breaker: SharedCircuitBreaker) -> None:
    user = person("operate_breaker")
    given = asked(browser(user), "open")
    strict = browser(user, enforce_csrf_checks=True)
    assert strict.post(ACT, given).status_code == 403
    assert no_acts()
    strict.get(ACT, {"action": "open", "name": "x"})
    strict.post(ACT, given | {"csrfmiddlewaretoken": strict.cookies["csrftoken"].value})
    assert entry().forced == "open"


def test_a_viewer_may_not_act(viewer: Client, breaker: SharedCircuitBreaker) -> None:
    given = asked(browser(person("operate_breaker")), "open")
    assert (viewer.get(ACT, given).status_code, viewer.post(ACT, given).status_code) == (403, 403)
    assert no_acts()


def test_a_stranger_may_not_act(client: Client, breaker: SharedCircuitBreaker) -> None:
    assert client.post(ACT, {"action": "open", "name": "x", "confirmed": "yes"})["Location"].startswith("/admin/login/")
    assert no_acts()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"action": "open"}, "choose one breaker or more"),
        ({"action": "explode", "name": "x"}, "choose what to do"),
        ({"name": "x"}, "choose what to do"),
        ({"action": "open", "name": ["x", "<b>"]}, "there is no breaker <b>."),
    ],
)
def test_what_cannot_be_asked(
    operator: Client, breaker: SharedCircuitBreaker, given: dict[str, Any], said: str
) -> None:
    assert said in words(operator.post(ACT, given | {"confirmed": "yes"}, follow=True).content.decode())
    assert no_acts()


# -- others are quicker ------------------------------------------------------------------------------------------------


def test_a_lost_race_is_told_and_asked_again(operator: Client, breaker: SharedCircuitBreaker) -> None:
    given = asked(operator, "close")
    fail(breaker, 5)
    answer = operator.post(ACT, given)
    text = words(answer.content.decode())
    assert answer.status_code == 409
    assert "Nothing was done: it has changed since you looked." in text
    assert re.search("x: was CLOSED, now OPEN since", text)
    assert no_acts()
    again = re.findall(r'name="seen" value="([^"]*)"', answer.content.decode())
    assert operator.post(ACT, given | {"seen": again}).status_code == 302
    assert entry().forced == "closed"


def test_another_operators_act_is_a_change(operator: Client, breaker: SharedCircuitBreaker) -> None:
    given = asked(operator, "disable")
    operations.act(["x"], "open", actor="grace", source="api", reason="first")
    assert "now OPEN, forced open" in words(operator.post(ACT, given).content.decode())
    assert entry().enabled


def test_an_act_that_comes_between_look_and_act_is_told(
    operator: Client, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x", "y"):
        create_circuit_breaker(name=name)
    given = asked(operator, "disable", "x", "y")
    real = operations.act

    def overtaken(*args: Any, **more: Any) -> Any:
        real(["x"], "open", actor="grace", source="api", reason="first")
        return real(*args, **more)

    monkeypatch.setattr(operations, "act", overtaken)
    answer = operator.post(ACT, given)
    text = words(answer.content.decode())
    assert answer.status_code == 409
    assert "x: was CLOSED, now OPEN, forced open" in text
    assert "Disable, for 1 hour: y." in text
    assert "Nothing was done" not in text
    assert "Not done with these: they have changed since you looked." in text
    assert (entry("x").enabled, entry("y").enabled) == (True, False)


def test_what_changed_and_is_not_to_be_seen_any_more_is_told(
    operator: Client, house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = asked(operator, "disable")
    real, looked = operations.act, pages.cards_of

    def overtaken(*args: Any, **more: Any) -> Any:
        real(["x"], "open", actor="grace", source="api", reason="first")
        monkeypatch.setattr(pages, "cards_of", lambda names: looked(["gone"]))
        return real(*args, **more)

    monkeypatch.setattr(operations, "act", overtaken)
    answer = operator.post(ACT, given, follow=True)
    assert "Not done with x: others have changed it since it was seen" in words(answer.content.decode())


def test_of_several_only_what_changed_is_named_and_none_is_done(operator: Client, house: House) -> None:
    x, _ = (create_circuit_breaker(name=name).breaker for name in ("x", "y"))
    given = asked(operator, "reset", "x", "y")
    fail(x, 5)
    answer = operator.post(ACT, given)
    (told,) = re.findall(r'<div class="lost".*?</div>', answer.content.decode(), re.DOTALL)
    assert ("x: was" in words(told), "y: was" in words(told)) == (True, False)
    assert no_acts()


def test_what_was_never_shown_is_not_acted_on(operator: Client, breaker: SharedCircuitBreaker) -> None:
    given = asked(operator, "open")
    del given["seen"]
    assert operator.post(ACT, given).status_code == 409
    assert no_acts()


def test_calls_alone_change_nothing_that_matters(operator: Client, breaker: SharedCircuitBreaker, house: House) -> None:
    given = asked(operator, "open")
    fail(breaker, 2)
    house.advance(5)
    operator.post(ACT, given)
    assert entry().forced == "open"


# -- the shared store or the database is away --------------------------------------------------------------------------


def test_without_the_shared_store_it_is_told(operator: Client, alone: Sync) -> None:
    create_circuit_breaker(name="x")
    text = words(operator.post(ACT, asked(operator, "open"), follow=True).content.decode())
    assert "Not done with x: no shared store is configured" in text
    assert "All workers follow" not in text
    assert "not done: no shared store" in LogEntry.objects.get().get_change_message()


def test_without_the_database_nothing_is_done(
    operator: Client, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**fields: Any) -> None:
        raise DatabaseError("away")

    given = asked(operator, "open")
    monkeypatch.setattr(operations, "_record", away)
    text = words(operator.post(ACT, given, follow=True).content.decode())
    assert "Nothing was done: the database" in text
    assert entry().forced is None


# -- who may, and the history ------------------------------------------------------------------------------------------


def may(group: str) -> set[str]:
    user = User.objects.create_user(group.split()[-1])
    user.groups.add(Group.objects.get(name=group))
    return {each for each in user.get_all_permissions() if each.startswith("breaker.") and each.endswith("_breaker")}


def test_the_groups_are_made() -> None:
    migration = importlib.import_module("breaker.migrations.0004_breaker_groups")
    Group.objects.all().delete()
    Permission.objects.filter(content_type__app_label="breaker", content_type__model="breaker").delete()
    for _ in range(2):
        migration.make_groups(apps, type("Editor", (), {"connection": connection}))
    assert may("Breaker viewers") == {"breaker.view_breaker"}
    assert may("Breaker operators") == {"breaker.view_breaker", "breaker.operate_breaker"}


def test_the_history_leads_to_the_breaker(admin_client: Client, breaker: SharedCircuitBreaker) -> None:
    admin_client.post(ACT, asked(admin_client, "open"))
    address = LogEntry.objects.get().get_admin_url()
    assert address is not None
    assert address in admin_client.get("/admin/").content.decode()
    assert admin_client.get(address, follow=True).status_code == 200


@pytest.fixture
def housekeeper() -> Client:
    """May delete accounts, and knows nothing of breakers."""
    user = person(name="hans")
    user.user_permissions.add(*Permission.objects.filter(codename__in=("view_user", "delete_user")))
    return browser(user)


@pytest.fixture
def actor(breaker: SharedCircuitBreaker) -> User:
    """Stands for all who act by the API."""
    operations.act(["x"], "open", actor="desk", source="api", reason="the auditors are in the house")
    return LogEntry.objects.get().user


def test_an_account_that_acted_is_not_deleted_with_what_it_did(housekeeper: Client, actor: User) -> None:
    address = f"/admin/auth/user/{actor.pk}/delete/"
    answers = housekeeper.get(address), housekeeper.post(address, {"post": "yes"})
    assert [answer.status_code for answer in answers] == [403, 403]
    assert LogEntry.objects.filter(user=actor).exists()


def test_nor_with_others_at_once_and_no_reason_is_read_out(housekeeper: Client, actor: User) -> None:
    chosen = {"action": "delete_selected", "_selected_action": [actor.pk]}
    page = housekeeper.post("/admin/auth/user/", chosen)
    assert (page.status_code, "auditors" in page.content.decode()) == (200, False)
    assert housekeeper.post("/admin/auth/user/", chosen | {"post": "yes"}).status_code == 403
    assert LogEntry.objects.filter(user=actor).exists()


def test_an_account_that_never_acted_can_be_deleted(housekeeper: Client) -> None:
    idle = person(name="ida")
    assert housekeeper.post(f"/admin/auth/user/{idle.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(username="ida").exists()

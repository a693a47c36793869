"""Deferred requests in the admin: seen, decided upon, and not looked into unnoticed; and on the dashboard."""

from __future__ import annotations

import importlib
import re
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from breaker import extras
from mifos_gateway import deferred_admin
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import acts, clock, desk, payload
from tests.breaker.watchers import BOARD, LIVE, browser, fresh_watch, person, words
from tests.mifos_gateway.deferred_rows import attempted, deferred

__all__ = ["fresh_watch"]
pytestmark = pytest.mark.django_db
LIST = "/admin/mifos_gateway/deferredrequest/"
ACT = f"{LIST}act/"
VIEW, OPERATE = "view_deferredrequest", "operate_deferredrequest"


@pytest.fixture
def viewer() -> Client:
    return browser(person(VIEW, name="vera"))


@pytest.fixture
def operator() -> Client:
    return browser(person(VIEW, OPERATE, name="otto"))


@pytest.fixture
def auditor() -> Client:
    return browser(person(VIEW, "view_payload", name="anna"))


def one(row: DeferredRequest) -> str:
    return f"{LIST}{row.pk}/change/"


def text(client: Client, address: str, *args: Any) -> str:
    answer = client.get(address, *args)
    assert answer.status_code == 200, answer
    return words(answer.content.decode().replace("<", " <"))


def shown(browser: Client, **asked: str) -> list[str]:
    """Paths of the requests that a list shows."""
    answer = browser.get(LIST, asked)
    assert answer.status_code == 200, answer
    return [row.target for row in answer.context["cl"].result_list]


def asked(client: Client, action: str, *rows: DeferredRequest) -> dict[str, Any]:
    """The form as the operator gets it, filled in with a reason and what it proposes."""
    page = client.get(ACT, {"action": action, "chosen": ",".join(str(row.pk) for row in rows)}).content.decode()
    form = re.findall(rf'<form method="post" action="{ACT}".*?</form>', page, re.DOTALL)[0]
    given: dict[str, Any] = {"reason": "agreed with the branch"}
    for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form):
        given.setdefault(name, []).append(value)
    if proposed := re.search(r'name="key" value="(\w+)"[^>]*checked', form):
        given["key"] = proposed[1]
    return given


def act(client: Client, action: str, *rows: DeferredRequest, **more: Any) -> str:
    """What the operator is told."""
    answer = client.post(ACT, {**asked(client, action, *rows), **more}, follow=True)
    return words(" ".join(str(message) for message in answer.context["messages"]))


def fresh(row: DeferredRequest) -> DeferredRequest:
    return DeferredRequest.objects.get(pk=row.pk)


# -- the list ----------------------------------------------------------------------------------------------------------


def test_the_list_says_where_each_stands(viewer: Client) -> None:
    head = deferred("loans/5", status="rejected", ago=90)
    deferred("loans/5", ago=60, client="checker")
    attempted(head, "busy", "rejected")
    page = text(viewer, LIST)
    assert re.search(
        rf"{str(head.uid)[:8]} ▲ rejected by MIFOS, holds up its order POST loans/5/transactions loans/5 1 2 "
        r"1 min 3\d s shop maker",
        page,
    ), page
    assert re.search(r"queued POST loans/5/transactions loans/5 2 0 1 min", page)


def test_a_long_list_takes_as_many_queries_as_a_short_one(viewer: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as caught:
            shown(viewer)
        return len(caught)

    attempted(deferred("loans/5", consumer="a"), "busy")
    deferred("loans/6", consumer="b")
    queries()
    few = queries()
    for number in range(20):
        attempted(deferred(f"loans/{number % 3}", consumer=f"c{number % 5}"), "busy", "busy")
    assert queries() == few


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["d", "c", "b", "a"]),
        ({"status": "waiting"}, ["d", "b"]),
        ({"status": "blocking"}, ["a"]),
        ({"status": "delivered"}, ["c"]),
        ({"status": "quued"}, ["d", "c", "b", "a"]),
        ({"age": "3600"}, ["b", "a"]),
        ({"client": "checker"}, ["b"]),
        ({"breaker": "MIFOS-Checker-post"}, ["b"]),
        ({"consumer__name__exact": "bank"}, ["c"]),
        ({"q": "loans/5"}, ["d", "a"]),
        ({"q": "loans/"}, ["d", "a"]),
        ({"order_key__exact": "loans/5"}, ["d", "a"]),
    ],
)
def test_filters(viewer: Client, asked: dict[str, str], found: list[str]) -> None:
    deferred("loans/5", status="unknown", ago=9000, target="a")
    deferred("", status="replaying", ago=8000, target="b", client="checker", breaker="MIFOS-Checker-post")
    deferred("", status="delivered", ago=3000, target="c", consumer="bank")
    deferred("loans/5", ago=2000, target="d")
    deferred(namespace="another", target="e")
    assert shown(viewer, **asked) == found


def test_it_is_found_by_its_id(viewer: Client) -> None:
    rows = [deferred(target=name) for name in "abc"]
    for given in (str(rows[1].uid), str(rows[1].uid)[:13], rows[1].idempotency_key):
        assert shown(viewer, q=given) == ["b"]


@pytest.mark.parametrize("asked", [{"q": "a\0"}, {"status": "\0"}, {"created_at__year": "x"}])
def test_a_filter_that_cannot_be_shows_all(viewer: Client, asked: dict[str, str]) -> None:
    deferred()
    assert viewer.get(LIST, asked).status_code == 302


def test_who_may_not_see_them_sees_none() -> None:
    row = deferred()
    stranger = browser(person("view_breaker", "view_payload", name="sam"))
    for address in (LIST, one(row), ACT, f"{LIST}{row.pk}/payload/", f"{LIST}{row.pk}/history/"):
        assert stranger.get(address).status_code == 403, address
    assert "Deferred requests" not in text(stranger, "/admin/")


def test_they_are_changed_and_deleted_by_nobody(admin_client: Client) -> None:
    row = deferred()
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.get(f"{LIST}{row.pk}/delete/").status_code == 403
    assert admin_client.post(one(row), {"status": "delivered"}).status_code == 403
    assert "delete_selected" not in admin_client.get(LIST).content.decode()


# -- one of them -------------------------------------------------------------------------------------------------------


def test_one_with_its_attempts(viewer: Client) -> None:
    row = deferred("loans/5", status="rejected", response=(400, b"{}"), key_serial=1)
    attempted(row, "conflict", error="<b>It is locked.</b>")
    attempted(row, "rejected", status=400, key_serial=1)
    page = text(viewer, one(row))
    assert re.search(r"UTC rejected 400 2 .*UTC conflict 409 1 <b>It is locked.</b>", page)
    assert "MIFOS answered: 400" in page
    assert str(row.uid) in page
    assert "2, one after the other" in page


def test_of_many_attempts_the_newest_are_shown(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred_admin, "ATTEMPTS", 2)
    row = deferred()
    attempted(row, "timeout", "busy", "conflict")
    page = text(viewer, one(row))
    assert [name in page for name in ("conflict", "busy", "timeout")] == [True, True, False]
    assert "There are older ones" in page


def test_another_gateway_s_is_not_there(admin_client: Client) -> None:
    row = deferred(namespace="another")
    assert admin_client.get(one(row)).status_code == 302
    assert admin_client.get(f"{LIST}{row.pk}/payload/").status_code == 404
    assert admin_client.get(ACT, {"action": "cancel", "chosen": row.pk}).status_code == 302


@pytest.mark.parametrize(
    ("status", "offered"),
    [
        ("queued", ["retry", "cancel"]),
        ("replaying", []),
        ("rejected", ["retry", "cancel", "release"]),
        ("expired", ["retry"]),
        ("delivered", []),
    ],
)
def test_what_makes_sense_is_offered_to_operators(
    operator: Client, viewer: Client, status: str, offered: list[str]
) -> None:
    row = deferred("loans/5", status=status)
    assert re.findall(r"act/\?action=(\w+)&amp;chosen=", operator.get(one(row)).content.decode()) == offered
    assert b"act/?action=" not in viewer.get(one(row)).content


# -- what it holds -----------------------------------------------------------------------------------------------------


def test_bodies_are_hidden_from_who_may_not_see_them(operator: Client) -> None:
    row = deferred("loans/5", status="rejected", response=(400, b'{"defaultUserMessage": "Closed"}'))
    for address in (LIST, one(row), f"{ACT}?action=retry&chosen={row.pk}"):
        page = operator.get(address).content.decode()
        assert "Asha" not in page
        assert "Closed" not in page
    assert "is hidden from you: it takes the permission view_payload" in text(operator, one(row))
    assert operator.get(f"{LIST}{row.pk}/payload/").status_code == 403
    assert not LogEntry.objects.exists()


def test_who_may_sees_them_and_that_is_noted(auditor: Client) -> None:
    row = deferred("loans/5", status="rejected", response=(400, b'{"defaultUserMessage": "Closed"}'))
    assert f"{LIST}{row.pk}/payload/" in auditor.get(one(row)).content.decode()
    assert not LogEntry.objects.exists()
    answer = auditor.get(f"{LIST}{row.pk}/payload/")
    page = words(answer.content.decode())
    assert '"firstname": "Asha"' in page
    assert '"defaultUserMessage": "Closed"' in page
    assert "no-store" in answer["Cache-Control"]
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), entry.get_change_message()) == ("anna", "Looked at its payload; by anna, admin")
    assert "Looked at its payload; by anna" in text(auditor, f"{LIST}{row.pk}/history/")


def test_nobody_looks_unnoticed(auditor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    row = deferred()
    monkeypatch.setattr(acts.django_log, "note", lambda *_, **__: "Django's log could not be written: full")
    answer = auditor.get(f"{LIST}{row.pk}/payload/", follow=True)
    page = words(answer.content.decode())
    assert ("Asha" in page, "Not shown: Django's log could not be written: full" in page) == (False, True)


def test_what_is_no_text_or_too_long_is_told(auditor: Client) -> None:
    row = deferred(body=b"\xff" * 300, status="delivered", response=(200, b"<script>" + b"x" * payload.LONGEST))
    answer = auditor.get(f"{LIST}{row.pk}/payload/").content.decode()
    assert "300 bytes, not shown: it is no text." in words(answer)
    assert "&lt;script&gt;xxx" in answer
    assert "and 8 characters more" in words(answer)


# -- acts --------------------------------------------------------------------------------------------------------------


def test_an_act_asks_why_and_is_in_the_log(operator: Client) -> None:
    row = deferred("loans/5", status="rejected")
    deferred("loans/5"), deferred("loans/5")
    page = text(operator, ACT, {"action": "release", "chosen": row.pk})
    assert "Those behind it in its order go on without it" in page
    assert "▲ 2 wait behind it" in page
    assert fresh(row).released_at is None
    assert act(operator, "release", row) == f"Release its order: {str(row.uid)[:8]}."
    assert fresh(row).released_at is not None
    entry = LogEntry.objects.get()
    assert entry.user.get_username() == "otto"
    assert entry.get_change_message() == (
        "Release its order: agreed with the branch (rejected → rejected, released); by otto, admin"
    )
    assert "agreed with the branch" in text(operator, f"{LIST}{row.pk}/history/")


def test_many_at_once_from_the_list_and_back_to_it(operator: Client) -> None:
    rows = [deferred(f"loans/{n}", status="rejected") for n in range(3)]
    chosen = {"action": "cancel", "_selected_action": [row.pk for row in rows[:2]]}
    asking = operator.post(f"{LIST}?status=rejected", chosen, follow=True)
    assert asking.redirect_chain[-1][0].startswith(f"{ACT}?action=cancel")
    form = asked(operator, "cancel", *rows[:2]) | {"filters": "status=rejected"}
    answer = operator.post(ACT, form, follow=True)
    assert answer.redirect_chain == [(f"{LIST}?status=rejected", 302)]
    assert [fresh(row).status for row in rows] == ["cancelled", "cancelled", "rejected"]
    assert LogEntry.objects.count() == 2


def test_more_than_can_be_at_once_are_said(operator: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred_admin, "MOST", 2)
    rows = [deferred(target=name) for name in "abc"]
    chosen = {"action": "cancel", "_selected_action": [rows[0].pk], "select_across": 1}
    page = words(operator.post(LIST, chosen, follow=True).content.decode().replace("<", " <"))
    assert "2 at once at most: here are the earliest ones" in page
    assert ("POST a" in page, "POST b" in page, "POST c" in page) == (True, True, False)


@pytest.mark.parametrize(
    ("status", "key", "serial"),
    [("rejected", None, 1), ("rejected", "same", 0), ("unknown", None, 0), ("unknown", "new", 1)],
)
def test_with_which_key_it_is_sent_again(operator: Client, status: str, key: str | None, serial: int) -> None:
    row = deferred("loans/5", status=status)
    act(operator, "retry", row, **({"key": key} if key else {}))
    assert (fresh(row).status, fresh(row).key_serial) == ("queued", serial)


def test_a_key_that_is_burnt_is_told_before_and_after(operator: Client) -> None:
    row = deferred(status="unknown", key_burnt=True)
    assert "its key is burnt: look in MIFOS" in text(operator, ACT, {"action": "retry", "chosen": row.pk})
    said = act(operator, "retry", row)
    assert said.startswith(f"Not done with {str(row.uid)[:8]}: MIFOS has recorded an error under its key")
    assert fresh(row).status == "unknown"


def test_a_key_that_mifos_may_have_forgotten_is_told(operator: Client) -> None:
    row = deferred(status="expired", key_since=clock.now() - timedelta(days=31))
    assert "MIFOS may have forgotten its key" in text(operator, ACT, {"action": "retry", "chosen": row.pk})
    assert "MIFOS may have forgotten its key" in act(operator, "retry", row)
    assert fresh(row).status == "expired"


def test_what_mifos_may_have_done_is_said(operator: Client) -> None:
    row = deferred(status="queued", perhaps_sent=True)
    assert "MIFOS may have done it" in text(operator, ACT, {"action": "cancel", "chosen": row.pk})


def test_a_race_that_was_lost_is_told_for_each(operator: Client) -> None:
    rows = [deferred(f"loans/{n}", status="rejected") for n in range(4)]
    form = asked(operator, "cancel", *rows)
    desk.retry(rows[0].pk)
    desk.retry(rows[1].pk)
    DeferredRequest.objects.filter(pk=rows[2].pk).delete()
    answer = operator.post(ACT, form, follow=True)
    said = [str(message) for message in answer.context["messages"]]
    changed = ", ".join(str(row.uid)[:8] for row in rows[:2])
    assert said == [
        f"Cancel: {str(rows[3].uid)[:8]}.",
        f"Not done with {changed}: It has changed since you looked, and is queued.",
        f"Not done with no. {rows[2].pk}: It is gone: what has ended is deleted after a while.",
    ]
    assert [fresh(row).status for row in (rows[0], rows[1], rows[3])] == ["queued", "queued", "cancelled"]


def test_without_a_reason_nothing_is_done(operator: Client) -> None:
    row = deferred()
    answer = operator.post(ACT, asked(operator, "cancel", row) | {"reason": " "})
    assert "Say why, for those who read it later." in words(answer.content.decode())
    assert fresh(row).status == "queued"


def test_what_was_not_looked_at_is_not_acted_on(operator: Client) -> None:
    row = deferred()
    form = asked(operator, "cancel", row)
    del form["seen"]
    operator.post(ACT, form)
    assert fresh(row).status == "queued"


@pytest.mark.parametrize(
    "given", [{}, {"action": "cancel"}, {"action": "delete", "chosen": "1"}, {"action": "cancel", "chosen": "x"}]
)
def test_who_has_chosen_nothing_is_told(operator: Client, given: dict[str, str]) -> None:
    for answer in (operator.get(ACT, given, follow=True), operator.post(ACT, given, follow=True)):
        assert "Nothing was done" in words(answer.content.decode())


def test_a_look_at_the_form_acts_not(operator: Client) -> None:
    row = deferred()
    form = asked(operator, "cancel", row)
    operator.get(ACT, form)
    operator.post(ACT, {name: value for name, value in form.items() if name != "confirmed"})
    assert fresh(row).status == "queued"
    assert operator.put(ACT).status_code == 405


def test_who_only_sees_cannot_act(viewer: Client, operator: Client) -> None:
    row = deferred("loans/5", status="rejected")
    form = asked(operator, "cancel", row)
    assert viewer.post(ACT, form).status_code == 403
    viewer.post(LIST, {"action": "cancel", "_selected_action": [row.pk]})
    assert fresh(row).status == "rejected"
    assert b"_selected_action" not in viewer.get(LIST).content


def test_an_act_needs_the_form_s_token() -> None:
    strict = browser(person(VIEW, OPERATE, name="otto"), enforce_csrf_checks=True)
    row = deferred()
    form = asked(strict, "cancel", row)
    del form["csrfmiddlewaretoken"]
    assert strict.post(ACT, form).status_code == 403
    assert fresh(row).status == "queued"


def test_nothing_stands_inline(admin_client: Client) -> None:
    row = deferred("loans/5", status="rejected")
    for address in (LIST, one(row), f"{ACT}?action=retry&chosen={row.pk}", f"{LIST}{row.pk}/payload/"):
        page = admin_client.get(address).content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", page), address


def test_an_account_that_acted_is_not_deleted_with_what_it_did() -> None:
    user = person(VIEW, OPERATE, name="otto")
    act(browser(user), "cancel", deferred())
    housekeeper = browser(person("view_user", "delete_user", name="hans"))
    assert housekeeper.post(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"}).status_code == 403


# -- groups ------------------------------------------------------------------------------------------------------------


def may(group: str) -> set[str]:
    user = User.objects.create_user(group.split()[-1])
    user.groups.add(Group.objects.get(name=group))
    return user.get_all_permissions()


def test_the_groups_are_made() -> None:
    migration = importlib.import_module("mifos_gateway.migrations.0005_deferred_groups")
    Group.objects.all().delete()
    Permission.objects.filter(content_type__app_label="mifos_gateway", content_type__model="deferredrequest").delete()
    for _ in range(2):
        migration.make_groups(apps, type("Editor", (), {"connection": connection}))
    assert may("Deferred request viewers") == {f"mifos_gateway.{VIEW}"}
    assert may("Deferred request operators") == {f"mifos_gateway.{VIEW}", f"mifos_gateway.{OPERATE}"}


# -- on the dashboard --------------------------------------------------------------------------------------------------


@pytest.fixture
def both() -> Client:
    return browser(person("view_breaker", VIEW, name="bea"))


def told(client: Client, address: str = LIVE) -> str:
    """What the dashboard says of deferred requests."""
    extras.forget()
    page = client.get(address).content.decode()
    found = re.search(r'id="extra-deferred">(.*?)</p>', page, re.DOTALL)
    return words(found[1]) if found else ""


def test_the_dashboard_shows_the_backlog(both: Client, settings: Any) -> None:
    deferred("loans/5", ago=200, status="replaying")
    deferred("loans/6", ago=100, status="rejected"), deferred("loans/6", ago=90)
    assert re.fullmatch(
        r"2 deferred requests wait the oldest for 3 min 2\d s ▲ 1 order is blocked", told(both, BOARD)
    ), told(both, BOARD)
    assert told(both) == "2 deferred requests wait the oldest for ▲ 1 order is blocked"  # the script counts
    page = both.get(BOARD).content.decode()
    assert [shown(both, status=word) for word in re.findall(rf'href="{LIST}\?status=(\w+)"', page)] == [
        ["loans/6/transactions", "loans/5/transactions"],
        ["loans/6/transactions"],
    ]


def test_there_is_no_line_where_nothing_is_deferred(both: Client, settings: Any) -> None:
    deferred(status="delivered")
    assert told(both) == told(both, BOARD) == ""
    settings.GATEWAY = {**settings.GATEWAY, "DEFERRED_ROUTES": ["POST clients"]}
    assert told(both) == "Deferred requests: none waits"


def test_the_dashboard_tells_nothing_to_who_may_not_see_them(settings: Any) -> None:
    deferred()
    client = browser(person("view_breaker", name="vera"))
    assert told(client) == told(client, BOARD) == ""


def test_a_database_that_is_away_breaks_no_dashboard(both: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Any:
        raise OperationalError("away")

    deferred()
    monkeypatch.setattr(desk, "backlog", away)
    assert told(both) == told(both, BOARD) == "▲ Deferred requests: not known at present"


def test_watching_costs_two_queries_a_second(both: Client, django_assert_num_queries: Any) -> None:
    deferred()
    both.get(LIVE)
    extras.forget()
    with django_assert_num_queries(2):
        for _ in range(5):
            both.get(LIVE)

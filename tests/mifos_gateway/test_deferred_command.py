"""manage.py deferred, as its user sees it: what it prints and with which code it ends."""

from __future__ import annotations

import json
import uuid
from io import StringIO
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import OperationalError

from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import acts, desk
from tests.mifos_gateway.deferred_rows import attempted, deferred

pytestmark = pytest.mark.django_db
WHY = ("--reason", "CHG-7")


class Ran:
    """One run of the command."""

    def __init__(self, *words: Any) -> None:
        out, err = StringIO(), StringIO()
        self.code: Any = 0
        try:
            call_command("deferred", *map(str, words), stdout=out, stderr=err, no_color=True)
        except SystemExit as end:
            self.code = end.code
        except CommandError as error:
            self.code = error.returncode
            err.write(str(error))
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def fresh(row: DeferredRequest) -> DeferredRequest:
    return DeferredRequest.objects.get(pk=row.pk)


# -- list --------------------------------------------------------------------------------------------------------------


def test_a_table_with_the_newest_first() -> None:
    first = deferred("loans/5", status="rejected", ago=90)
    deferred("loans/5", ago=30)
    attempted(first, "busy", "rejected")
    ran = Ran("list")
    assert ran.lines[0].split() == ["ID", "STATUS", "ORDER", "PLACE", "TRIES", "AGE", "CONSUMER", "CLIENT", "REQUEST"]
    newer, older = (line.split() for line in ran.lines[1:])
    assert newer[1:5] == ["queued", "loans/5", "2", "0"]
    assert older[:5] == [str(first.uid), "rejected", "loans/5", "1", "2"]
    assert older[5:] == ["1", "min", "30", "s", "shop", "maker", "POST", "loans/5/transactions"]
    assert ran.code == 0


def test_nothing_is_said_to_be_none() -> None:
    deferred(namespace="another")
    assert (Ran("list").out.strip(), Ran("list", "--json").json) == ("There is none.", [])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--status", "queued"), ["a"]),
        (("--status", "queued,rejected"), ["a", "b"]),
        (("--client", "checker"), ["b"]),
        (("--consumer", "bank"), ["c"]),
        (("--order", "loans/6"), ["b"]),
        (("--since", "10m"), ["a"]),
        (("--status", "queued", "--client", "checker"), []),
    ],
)
def test_what_is_asked_for(words: tuple[str, ...], found: list[str]) -> None:
    deferred("loans/5", status="delivered", ago=4000, target="c", consumer="bank")
    deferred("loans/6", status="rejected", ago=3000, target="b", client="checker")
    deferred("loans/5", target="a")
    assert [one["path"] for one in Ran("list", *words, "--json").json] == found


def test_json_is_the_api_s_without_bodies() -> None:
    row = deferred("loans/5", status="rejected", response=(400, b'{"secret": 1}'))
    attempted(row, "rejected")
    (told,) = Ran("list", "--json").json
    assert told.items() >= (desk.entry(row) | {"response": {"status": 400}, "consumer": "shop"}).items()
    assert (told["breaker"], told["keyBurnt"], told["releasedAt"]) == ("MIFOS-Maker-post", False, None)


def test_a_long_list_is_cut_and_says_so(django_assert_max_num_queries: Any) -> None:
    for number in range(4):
        deferred("loans/5", target=str(number))
    with django_assert_max_num_queries(4):  # on PostgreSQL two are for the time
        ran = Ran("list", "--limit", "3", "--json")
        Ran("list", "--limit", "3")
    assert ([one["path"] for one in ran.json], "There are more" in ran.err) == (["3", "2", "1"], True)
    assert Ran("list", "--limit", "4").err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--status", "quued"), "--status 'quued': one of queued, replaying"),
        (("--since", "yesterday"), "--since='yesterday'"),
        (("--limit", "0"), "--limit 0: 1 or more"),
    ],
)
def test_what_cannot_be_read_is_named(words: tuple[str, ...], said: str) -> None:
    ran = Ran("list", *words)
    assert (ran.code, ran.err.startswith(said)) == (2, True)


# -- show --------------------------------------------------------------------------------------------------------------


def test_one_with_its_attempts_and_acts_and_without_bodies() -> None:
    row = deferred("loans/5", status="rejected", response=(400, b'{"defaultUserMessage": "The loan is closed"}'))
    attempted(row, "busy", "rejected", error="It is locked.")
    Ran("release", row.uid, *WHY)
    ran = Ran("show", str(row.uid)[:10])
    assert f"id: {row.uid}" in ran.lines
    assert "position: null" in ran.lines
    assert 'response: {"status": 400}' in ran.lines
    assert [line.split()[2] for line in ran.lines if "It is locked." in line] == ["busy", "rejected"]
    assert "Release its order: CHG-7 (rejected → rejected, released)" in ran.out
    assert "Asha" not in ran.out + ran.err
    assert "The loan is closed" not in ran.out + ran.err
    assert LogEntry.objects.count() == 1


def test_bodies_by_a_word_of_its_own_which_is_noted() -> None:
    row = deferred(status="rejected", response=(400, b'{"defaultUserMessage": "The loan is closed"}'))
    ran = Ran("show", row.uid, "--payload")
    assert '"firstname": "Asha"' in ran.out
    assert "The loan is closed" in ran.out
    assert LogEntry.objects.get().get_change_message().startswith("Looked at its payload; by ")


def test_json_holds_the_same() -> None:
    row = deferred(body=b"\xff\xfe")
    Ran("retry", row.uid, *WHY)
    plain, whole = Ran("show", row.uid, "--json").json, Ran("show", row.uid, "--json", "--payload").json
    assert ("payload" in plain, len(plain["acts"])) == (False, 1)
    assert whole["payload"] == {
        "headers": {"Content-Type": "application/json"},
        "body": {"text": None, "bytes": 2, "note": "it is no text"},
        "response": None,
    }


def test_a_body_gives_a_terminal_no_orders() -> None:
    row = deferred(body=b"\x1b[2J\x07 \xc2\x9b ok\n")
    assert "\\x1b[2J\\x07 \\x9b ok\n" in Ran("show", row.uid, "--payload").out


def test_nobody_looks_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    row = deferred()
    monkeypatch.setattr(acts.django_log, "note", lambda *_, **__: "Django's log could not be written: full")
    ran = Ran("show", row.uid, "--payload")
    assert (ran.code, ran.out, "could not be written" in ran.err) == (2, "", True)


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_an_id_is_given_by_its_beginning() -> None:
    one = deferred(uid=uuid.UUID("0d7f5a52-8f3e-4b51-9c55-0f7f6a3b8f10"))
    deferred(uid=uuid.UUID("0d7f5a53-8f3e-4b51-9c55-0f7f6a3b8f10"))
    for beginning in ("0d7f5a52", "0D7F5A52-8F", "0d7f5a528f3e4b", str(one.uid)):
        assert f"id: {one.uid}" in Ran("show", beginning).out


@pytest.mark.parametrize(
    ("beginning", "said"),
    [
        ("0d7f", "ID '0d7f': several begin so, such as 0d7f5a52-"),
        ("1", "ID '1': there is no such deferred request"),
        ("loans/5", "ID 'loans/5': an id, or the beginning of one, is hexadecimal"),
        ("-", "ID '-': an id"),
        ("0" * 33, "ID '000"),
    ],
)
def test_an_id_that_is_none_stops_all(beginning: str, said: str) -> None:
    rows = [deferred(uid=uuid.UUID(f"0d7f5a5{n}-8f3e-4b51-9c55-0f7f6a3b8f10")) for n in (2, 3)]
    ran = Ran("cancel", *WHY, "--", rows[0].uid, beginning)
    assert (ran.code, ran.err.startswith(said)) == (2, True)
    assert {fresh(row).status for row in rows} == {"queued"}


def test_another_gateway_s_is_none() -> None:
    assert Ran("cancel", deferred(namespace="another").uid, *WHY).code == 2


# -- acts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "status", "then"),
    [("retry", "rejected", "queued"), ("cancel", "queued", "cancelled"), ("release", "unknown", "unknown, released")],
)
def test_an_act_is_done_and_told(verb: str, status: str, then: str) -> None:
    row = deferred("loans/5", status=status)
    ran = Ran(verb, row.uid, *WHY)
    assert (ran.code, ran.out) == (0, f"{row.uid}: {status} → {then}\n")
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), "CHG-7" in entry.change_message) == ("breaker-command", True)


def test_some_that_cannot_be_are_told_and_the_others_done() -> None:
    fine, ended = deferred(), deferred(status="delivered")
    ran = Ran("cancel", ended.uid, fine.uid, *WHY)
    assert (ran.code, ran.out) == (1, f"{fine.uid}: queued → cancelled\n")
    assert ran.err == f"{ended.uid}: not done: It is delivered, and can no longer be cancelled.\n"


def test_a_burnt_key_needs_a_new_one() -> None:
    row = deferred(status="unknown", key_burnt=True)
    ran = Ran("retry", row.uid, *WHY)
    assert (ran.code, "with a new key" in ran.err, fresh(row).status) == (1, True, "unknown")
    assert Ran("retry", row.uid, "--new-key", *WHY).code == 0
    assert (fresh(row).status, fresh(row).key_serial) == ("queued", 1)


def test_an_act_needs_a_reason() -> None:
    row = deferred()
    ran = Ran("cancel", row.uid, "--reason", " ")
    assert (ran.code, ran.err, fresh(row).status) == (2, "reason: say why, for those who read it later", "queued")


def test_a_database_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("it is away")

    monkeypatch.setattr(desk, "of_namespace", away)
    for words in (("list",), ("show", "0d"), ("cancel", "0d", *WHY), ("purge",)):
        ran = Ran(*words)
        assert (ran.code, ran.err) == (
            2,
            "the database, which keeps deferred requests, could not be asked: it is away",
        )


# -- purge -------------------------------------------------------------------------------------------------------------


def test_what_has_ended_is_deleted() -> None:
    deferred(status="delivered", ago=3 * 24 * 3600), deferred("loans/5", status="rejected", ago=3 * 24 * 3600)
    assert Ran("purge").out == "Deleted: 0.\n"
    ran = Ran("purge", "--days", "2")
    assert (ran.code, ran.out, DeferredRequest.objects.count()) == (0, "Deleted: 1.\n", 1)
    newest = LogEntry.objects.first()
    assert newest is not None
    assert newest.get_change_message().startswith("Deleted what had ended 2 days before: 1; by ")


@pytest.mark.parametrize("days", [0, -1, 36_601])
def test_days_that_cannot_be_are_named(days: int) -> None:
    deferred(status="delivered", ago=60)
    ran = Ran("purge", f"--days={days}")
    assert (ran.code, f"--days {days}: 1 to 36600" in ran.err, DeferredRequest.objects.count()) == (2, True, 1)

"""The table of operators' acts and its page in the admin."""

import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import translation

from breaker import operations
from breaker.models import OperatorAct
from breaker.registry import create_circuit_breaker

pytestmark = pytest.mark.django_db


@pytest.fixture
def row() -> OperatorAct:
    create_circuit_breaker(name="x")
    (done,) = operations.act(["x"], "open", actor="ada", source="command", reason="<b>maintenance</b>", for_seconds=60)
    return done.row


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def page(what: str, *args: Any) -> str:
    return reverse(f"admin:breaker_operatoract_{what}", args=args)


def test_migrations_are_complete() -> None:
    call_command("makemigrations", "breaker", check=True, dry_run=True, stdout=StringIO())


def test_an_act_reads_as_a_sentence(row: OperatorAct) -> None:
    assert str(row) == "open x by ada"


def test_the_newest_act_comes_first(row: OperatorAct) -> None:
    operations.act(["x"], "release", actor="ada", source="command", reason="done")
    assert [one.action for one in OperatorAct.objects.all()] == ["release", "open"]


@pytest.mark.parametrize("query", ["", "?q=ada", "?action=open&status=applied&source=command&breaker=x"])
def test_the_list_opens(admin: Client, row: OperatorAct, query: str) -> None:
    answer = admin.get(page("changelist") + query)
    assert answer.status_code == 200
    assert "&lt;b&gt;maintenance&lt;/b&gt;" in answer.content.decode()


@pytest.mark.parametrize("what", ["changelist", "change"])
def test_every_label_is_translated(admin: Client, row: OperatorAct, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(translation._trans, "gettext", lambda message: f"«{message}»")
    told = admin.get(page(what, *[row.pk] * (what == "change"))).content.decode()
    found = re.findall(r'<label\b[^>]*>([^<]*)|<div class="text">(?:<a[^>]*>|<span>)([^<]*)', told)

    labels = [label for each in found if (label := "".join(each).strip())]
    assert len(labels) > 7
    assert [label for label in labels if not label.startswith("«")] == []


def test_an_act_opens_to_read_only(admin: Client, row: OperatorAct) -> None:
    answer = admin.get(page("change", row.pk))
    assert answer.status_code == 200
    assert 'name="_save"' not in answer.content.decode()


def test_an_act_cannot_be_changed_added_or_deleted(admin: Client, row: OperatorAct) -> None:
    pages = [page("change", row.pk), page("add"), page("delete", row.pk)]
    assert [admin.post(one, {"reason": "another"}).status_code for one in pages] == [403, 403, 403]
    row.refresh_from_db()
    assert row.reason == "<b>maintenance</b>"


def test_the_list_cannot_delete_either(admin: Client, row: OperatorAct) -> None:
    admin.post(page("changelist"), {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    assert OperatorAct.objects.count() == 1

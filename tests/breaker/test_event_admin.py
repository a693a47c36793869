"""Events in the admin: to be read, filtered and taken away, and to be changed by nobody."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from breaker import conf, exports
from breaker.models import BreakerEvent, OperatorAct
from tests.breaker.watchers import browser, member, person, words

pytestmark = pytest.mark.django_db
LIST = "/admin/breaker/breakerevent/"
AT = datetime(2026, 11, 23, 14, tzinfo=UTC)


def event(**more: Any) -> BreakerEvent:
    given = {
        "namespace": conf.namespace(),
        "rev": str(BreakerEvent.objects.count()),
        "breaker": "x",
        "kind": "transition",
        "from_state": "CLOSED",
        "to_state": "OPEN",
        "at": AT,
        "source": "breaker",
    }
    return BreakerEvent.objects.create(**given | more)


@pytest.fixture
def reader(db: None) -> Client:
    return browser(person("view_breaker", name="rita"))


def rows(client: Client, **asked: str) -> int:
    answer = client.get(LIST, asked)
    assert answer.status_code == 200, answer
    return answer.context["cl"].result_count


def saved(client: Client, action: str, *chosen: BreakerEvent, query: str = "", **more: str) -> str:
    form = {"action": action, "_selected_action": [each.pk for each in chosen], **more}
    answer = client.post(f"{LIST}?{query}", form)
    assert answer.status_code == 200, answer
    return b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]


def test_events_are_listed_and_shown(reader: Client) -> None:
    one = event(reason="an upgrade", actor="ada")
    assert "CLOSED OPEN ada" in " ".join(words(reader.get(LIST).content.decode().replace("<", " <")).split())
    assert "an upgrade" in words(reader.get(f"{LIST}{one.pk}/change/").content.decode())


def test_filters_search_and_days(reader: Client) -> None:
    event()
    event(breaker="y", kind="operation", operation="open", source="api", actor="ada", at=AT - timedelta(days=40))
    event(breaker="y", to_state="CLOSED", alone=True)
    assert rows(reader) == 3
    assert rows(reader, kind__exact="operation") == 1
    assert rows(reader, operation="open") == 1
    assert rows(reader, source__exact="api") == 1
    assert rows(reader, to_state="OPEN") == 2
    assert rows(reader, breaker="y") == 2
    assert rows(reader, alone__exact="1") == 1
    assert rows(reader, q="ada") == 1
    assert rows(reader, at__year="2026", at__month="11", at__day="23") == 2


@pytest.mark.parametrize("kind", ["breakerevent", "operatoract"])
def test_another_gateways_events_and_acts_are_not_shown(reader: Client, kind: str) -> None:
    other: Any = event(namespace="elsewhere") if kind == "breakerevent" else _act(person(), namespace="elsewhere")
    place = f"/admin/breaker/{kind}/"
    assert reader.get(place).context["cl"].result_count == 0
    assert reader.get(f"{place}{other.pk}/change/").status_code == 302


def test_who_may(client: Client) -> None:
    assert client.get(LIST).status_code == 302
    assert browser(person(name="nora")).get(LIST).status_code == 403


@pytest.mark.parametrize("group", ["Breaker viewers", "Breaker operators"])
@pytest.mark.parametrize("kind", ["breakerevent", "operatoract"])
def test_the_ready_made_groups_see_events_and_acts(group: str, kind: str) -> None:
    client = browser(member(group))
    assert client.get(f"/admin/breaker/{kind}/").status_code == 200
    assert f'href="/admin/breaker/{kind}/"' in client.get("/admin/").content.decode()


@pytest.mark.parametrize("kind", ["breakerevent", "operatoract"])
def test_a_filter_that_no_text_can_be_is_refused(reader: Client, kind: str) -> None:
    """PostgreSQL answers a NUL with an error."""
    for asked in ("breaker=%00", "source__exact=%00", "breaker=%00&breaker=x"):
        answer = reader.get(f"/admin/breaker/{kind}/?{asked}")
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/breaker/{kind}/?e=1")


def test_times_have_seconds_and_a_zone_and_durations_a_unit(reader: Client) -> None:
    at = datetime(2026, 11, 24, 2, 24, 5, tzinfo=UTC)
    row = event(at=at, duration_ms=67_073)
    done = OperatorAct.objects.create(
        act_id="1", namespace=conf.namespace(), breaker="x", action="open", for_seconds=90, until=at, applied_at=at
    )
    for page in (LIST, f"{LIST}{row.pk}/change/", "/admin/breaker/operatoract/"):
        shown = reader.get(page).content.decode()
        assert 'title="2026-11-24 02:24:05 UTC"' in shown, page
        assert "2026-11-24 02:24:05 UTC" in words(shown)
        assert 'breaker.js" type="module"' in shown
    assert "1 min 7 s" in words(reader.get(f"{LIST}{row.pk}/change/").content.decode())
    shown = words(reader.get(f"/admin/breaker/operatoract/{done.pk}/change/").content.decode())
    assert "1 min 30 s" in shown
    assert shown.count("2026-11-24 02:24:05 UTC") == 2


# -- taken away --------------------------------------------------------------------------------------------------------


def test_selected_events_as_csv(reader: Client) -> None:
    one, _ = event(counts={"failures": 5}, duration_ms=1500), event()
    (row,) = csv.DictReader(io.StringIO(saved(reader, "as_csv", one)))
    assert (row["id"], row["from"], row["to"], row["durationMs"]) == (str(one.pk), "CLOSED", "OPEN", "1500")
    assert json.loads(row["counts"]) == {"failures": 5}


def test_all_filtered_events_as_json(reader: Client) -> None:
    shown = [event(breaker="y", at=AT + timedelta(seconds=n)) for n in range(60)]
    event()
    told = json.loads(saved(reader, "as_json", shown[0], query="breaker=y", select_across="1"))
    assert [row["id"] for row in told] == [each.pk for each in reversed(shown)]


def test_no_formula_in_a_csv(reader: Client) -> None:
    one = event(reason='=HYPERLINK("http://x")', actor="+ada", breaker="x")
    (row,) = csv.DictReader(io.StringIO(saved(reader, "as_csv", one)))
    assert (row["reason"], row["actor"]) == ('\'=HYPERLINK("http://x")', "'+ada")


def test_nothing_as_a_file() -> None:
    for form, said in (("csv", "id\r\n"), ("json", "[\n]\n")):
        answer = exports.answer([], file="x", form=form, columns=["id"])
        assert b"".join(answer.streaming_content).decode() == said  # type: ignore[arg-type]


# -- changed by nobody -------------------------------------------------------------------------------------------------


def _act(user: User, **more: Any) -> OperatorAct:
    given = {"act_id": "1", "namespace": conf.namespace(), "breaker": "x", "action": "open", "source": "admin"}
    return OperatorAct.objects.create(actor=user.username, **given | more)


@pytest.mark.parametrize("kind", ["breakerevent", "operatoract"])
def test_a_superuser_can_neither_add_nor_change_nor_delete(kind: str, admin_client: Client, admin_user: User) -> None:
    row: Any = event(reason="as it was") if kind == "breakerevent" else _act(admin_user)
    place = f"/admin/breaker/{kind}/"
    assert admin_client.post(f"{place}add/", {"reason": "x"}).status_code == 403
    assert admin_client.post(f"{place}{row.pk}/change/", {"reason": "another"}).status_code == 403
    assert admin_client.post(f"{place}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    admin_client.post(place, {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    before = row.reason
    row.refresh_from_db()
    assert row.reason == before
    assert "delete_selected" not in admin_client.get(place).content.decode()


def test_rows_outlive_who_did_it(admin_client: Client) -> None:
    ada = person("operate_breaker")
    event(actor="ada"), _act(ada)
    answer = admin_client.post(f"/admin/auth/user/{ada.pk}/delete/", {"post": "yes"})
    assert answer.status_code == 302
    assert not User.objects.filter(pk=ada.pk).exists()
    assert (BreakerEvent.objects.count(), OperatorAct.objects.count()) == (1, 1)

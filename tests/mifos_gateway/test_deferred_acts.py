"""What operators do with deferred requests, below admin and command, and what they see of their payloads."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import OperationalError

from breaker.operations import ActRefused
from mifos_gateway.models import DeferredRequest
from mifos_gateway.outbox import acts, payload
from mifos_gateway.outbox.acts import Done
from tests.mifos_gateway.deferred_rows import deferred

pytestmark = pytest.mark.django_db
WHY = {"actor": "ada", "source": "command", "reason": "CHG-7"}


def act(action: str, *rows: DeferredRequest, **more: Any) -> list[Done]:
    return acts.act([row.pk for row in rows], action, **{**WHY, **more})


def fresh(row: DeferredRequest) -> DeferredRequest:
    return DeferredRequest.objects.get(pk=row.pk)


# -- an act ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "status", "went"),
    [
        ("release", "rejected", "rejected → rejected, released"),
        ("cancel", "unknown", "unknown → cancelled"),
        ("retry", "expired", "expired → queued"),
    ],
)
def test_an_act_is_done_and_is_in_django_s_log(
    action: str, status: str, went: str, caplog: pytest.LogCaptureFixture
) -> None:
    row = deferred("loans/5", status=status)
    (done,) = act(action, row)
    assert (done.name, done.went, done.refused, done.problem) == (str(row.uid), went, "", "")
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.object_repr, entry.user.get_username()) == (
        str(row.pk),
        str(row.uid),
        "breaker-command",
    )
    assert entry.get_change_message() == f"{acts.TITLES[action]}: CHG-7 ({went}); by ada, command"
    assert "by ada (command): CHG-7" in caplog.text


def test_a_new_key_is_told() -> None:
    row = deferred(status="rejected")
    act("retry", row, user=User.objects.create_user("ann"))
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), "Send again, with a new key: CHG-7" in entry.change_message) == ("ann", True)
    assert fresh(row).key_serial == 1


def test_each_is_for_itself() -> None:
    fine, sent, other = deferred(), deferred(status="replaying"), deferred()
    done = act("cancel", other, sent, fine)
    assert [bool(one.refused) for one in done] == [False, True, False]
    assert [fresh(row).status for row in (fine, sent, other)] == ["cancelled", "replaying", "cancelled"]
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize("action", ["cancel", "release"])
def test_what_is_so_already_is_told_and_leaves_no_entry(action: str) -> None:
    row = deferred("loans/5", status="rejected")
    act(action, row)
    (again,) = act(action, row)
    assert "already" in again.refused
    assert LogEntry.objects.count() == 1


def test_what_has_changed_since_is_left_alone() -> None:
    row = deferred("loans/5", status="rejected")
    saw = {row.pk: acts.seen(row)}
    act("retry", row)
    (late,) = act("cancel", row, over=saw)
    assert late.refused == "It has changed since you looked, and is queued."
    assert fresh(row).status == "queued"


def test_what_is_gone_is_told() -> None:
    row = deferred(status="rejected")
    pk = row.pk
    DeferredRequest.objects.all().delete()
    (done,) = acts.act([pk], "cancel", **WHY)
    assert done.refused.startswith("It is gone")


def test_another_gateway_s_are_not_touched() -> None:
    row = deferred(namespace="another")
    (done,) = act("cancel", row)
    assert (bool(done.refused), fresh(row).status) == (True, "queued")


@pytest.mark.parametrize("more", [{"reason": " "}, {"reason": "x" * 2001}, {"reason": "a\0"}, {"new_key": True}])
def test_an_act_that_lacks_something_is_refused_before_it_is_done(more: dict[str, Any]) -> None:
    row = deferred()
    with pytest.raises(ActRefused):
        act("cancel", row, **more)
    assert fresh(row).status == "queued"


def test_an_unknown_act_is_refused() -> None:
    with pytest.raises(ActRefused, match="one of retry, cancel, release"):
        act("delete", deferred())


def test_act_and_entry_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that goes away between the two has neither; those before keep theirs."""
    first, second = deferred(), deferred()
    left = [acts.django_log.note]

    def note(*args: Any, **more: Any) -> str:
        if not left:
            raise OperationalError("gone")
        return left.pop()(*args, **more)

    monkeypatch.setattr(acts.django_log, "note", note)
    done = act("cancel", first, second)
    assert [one.refused for one in done] == ["", "The database is away (gone)."]
    assert [fresh(row).status for row in (first, second)] == ["cancelled", "queued"]
    with pytest.raises(OperationalError):
        act("cancel", second)


# -- what it holds -----------------------------------------------------------------------------------------------------


def test_json_is_laid_out() -> None:
    found = payload.of(deferred(status="delivered", response=(200, b"not json")))
    assert '\n  "firstname": "Asha"' in found.body.text
    assert found.headers == {"Content-Type": "application/json"}
    assert found.response is not None
    assert (found.response.text, found.response.size) == ("not json", 8)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "there is none"), (None, "there is none"), (b"\xff\xfe", "it is no text"), (b"a\0", "it is no text")],
)
def test_what_cannot_be_shown_is_told(content: bytes | None, why: str) -> None:
    found = payload.body(content)
    assert (found.text, found.why) == ("", why)


def test_a_long_one_is_cut() -> None:
    found = payload.body("é".encode() * (payload.LONGEST + 3))
    assert (len(found.text), found.left_out, found.size) == (payload.LONGEST, 3, 2 * payload.LONGEST + 6)


@pytest.mark.parametrize("given", ['{"a": 1.10}', '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e400}'])
def test_nothing_is_lost_by_laying_it_out(given: str) -> None:
    assert payload.body(given.encode()).text == given


def test_depth_beyond_reason_is_text() -> None:
    assert payload.body(b"[" * 100_000).text.startswith("[[[")


def test_what_was_written_with_a_key_that_is_gone_is_told(settings: Any) -> None:
    row = deferred(status="rejected", response=(400, b"{}"))
    settings.SECRET_KEY = "another-" + "x" * 50
    found = payload.of(row)
    assert "cannot be read" in found.body.why
    assert found.response is not None
    assert "cannot be read" in found.response.why

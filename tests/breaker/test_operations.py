"""What operators do: the row first, then the shared state; and what happens to it when that is away or is lost."""

import math
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, connection
from django.utils import timezone

from breaker import django_log, operations, queries
from breaker.engine import desk, machine
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.machine import Action
from breaker.engine.sync import Sync
from breaker.models import OperatorAct
from breaker.operations import ActRefused, Done, UnknownBreaker
from breaker.registry import create_circuit_breaker
from breaker.testing import fail, rejected
from tests.breaker.conftest import House
from tests.programs import RedisServer

pytestmark = pytest.mark.django_db


def act(action: str, *names: str, **more: Any) -> list[Done]:
    who = {"actor": "ada", "source": "admin", "reason": "a test"}
    return operations.act(names or ("x",), action, **(who | more))


def entry(name: str = "x") -> queries.Entry:
    (found,) = queries.status([name]).entries
    return found


def row() -> OperatorAct:
    return OperatorAct.objects.get()


@pytest.fixture
def breaker() -> SharedCircuitBreaker:
    return create_circuit_breaker(name="x").breaker


# -- the six -----------------------------------------------------------------------------------------------------------


def test_open_rejects_everywhere(house: House, breaker: SharedCircuitBreaker) -> None:
    theirs = SharedCircuitBreaker("x", sync=house.there)
    act("open")
    house.beat()
    assert rejected(breaker)
    assert rejected(theirs)


def test_close_never_opens(breaker: SharedCircuitBreaker) -> None:
    act("close")
    fail(breaker, 20)
    assert (entry().state, entry().forced) == ("CLOSED", "closed")


def test_release_starts_closed_and_counts_afresh(breaker: SharedCircuitBreaker) -> None:
    fail(breaker, 4)
    act("open")
    act("release")
    fail(breaker, 4)
    assert (entry().state, entry().forced) == ("CLOSED", None)


def test_disable_lets_calls_pass_also_an_open_circuit(breaker: SharedCircuitBreaker) -> None:
    fail(breaker, 5)
    act("disable")
    assert not rejected(breaker)
    assert not entry().enabled


def test_enable_guards_what_the_options_do_not() -> None:
    unguarded = create_circuit_breaker(name="x", enabled=False).breaker
    act("enable")
    fail(unguarded, 5)
    assert rejected(unguarded)


def test_reset_closes_and_lifts_all(breaker: SharedCircuitBreaker) -> None:
    act("open"), act("disable")
    fail(breaker, 5)
    act("reset")
    assert (entry().state, entry().forced, entry().enabled) == ("CLOSED", None, True)


def test_a_breaker_of_another_process_can_be_steered(house: House) -> None:
    theirs = house.elsewhere("theirs")
    act("open", "theirs")
    house.beat()
    assert rejected(theirs)


def test_a_force_ends_at_its_time(house: House, breaker: SharedCircuitBreaker) -> None:
    act("open", for_seconds=5)
    house.advance(4.75)
    assert entry().state == "OPEN"
    house.advance(0.5)
    assert (entry().state, entry().forced) == ("CLOSED", None)


# -- the row -----------------------------------------------------------------------------------------------------------


def test_an_act_leaves_a_row_that_says_who_how_and_why(breaker: SharedCircuitBreaker) -> None:
    act("open", actor="ada", source="command", reason="maintenance", for_seconds=60)
    kept = row()
    assert (kept.breaker, kept.action, kept.actor, kept.source) == ("x", "open", "ada", "command")
    assert (kept.reason, kept.for_seconds) == ("maintenance", 60)


def test_an_applied_act_says_when_and_from_what_to_what(breaker: SharedCircuitBreaker) -> None:
    (done,) = act("open", for_seconds=60)
    kept = row()
    assert (kept.status, kept.error, kept.state_before, kept.state_after) == ("applied", "", "CLOSED", "OPEN")
    assert kept.applied_at is not None
    assert kept.until is not None
    assert (kept.until - kept.applied_at).total_seconds() == 60
    assert (done.breaker, done.row, done.error) == ("x", kept, "")


def test_an_act_without_an_end_has_no_until(breaker: SharedCircuitBreaker) -> None:
    act("open")
    assert row().until is None


def test_the_row_comes_first(breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def look(*args: Any, **more: Any) -> Any:
        seen.append(row().status)
        return real(*args, **more)

    real = desk.act
    monkeypatch.setattr(desk, "act", look)
    act("open")
    assert seen == ["pending"]


def test_without_the_database_nothing_is_done(breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**fields: Any) -> None:
        raise DatabaseError("away")

    monkeypatch.setattr(OperatorAct.objects, "create", away)
    with pytest.raises(DatabaseError):
        act("open")
    assert entry().forced is None


def lose_database_at(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The act on that breaker finds it gone."""
    create = operations._record

    def away(**fields: Any) -> Any:
        if fields["breaker"] == name:
            raise DatabaseError("away")
        return create(**fields)

    monkeypatch.setattr(operations, "_record", away)


def test_a_database_that_goes_away_in_the_middle_hides_nothing_that_was_done(
    breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_circuit_breaker(name="y")
    lose_database_at("y", monkeypatch)
    x, y = act("open", "x", "y")
    assert (x.error, x.row.status) == ("", "applied")
    assert (y.error, y.row.status) == ("the database, which keeps who did it, is away (away)", "failed")


# -- Django's log ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["api", "command"])
def test_an_act_from_anywhere_is_in_djangos_log(breaker: SharedCircuitBreaker, source: str) -> None:
    for action, seconds in (("disable", None), ("open", 60)):
        act(action, source=source, actor="ann", reason="an upgrade", for_seconds=seconds)
    opened, disabled = LogEntry.objects.all()
    where = {"api": "API", "command": "command"}[source]
    assert disabled.change_message == (
        f"Disable, until released: an upgrade (CLOSED → CLOSED, disabled); by ann, {where}"
    )
    until = f"{OperatorAct.objects.get(action='open').until:%Y-%m-%d %H:%M:%S} UTC"
    assert opened.change_message == (
        f"Force open, until {until}: an upgrade (CLOSED, disabled → CLOSED, disabled, forced open); by ann, {where}"
    )
    assert (opened.object_id, opened.content_type.model) == ("x", "breaker")
    user = opened.user
    assert (user.get_username(), user.is_active, user.is_staff) == (f"breaker-{source}", False, False)
    assert not user.has_usable_password()
    assert disabled.user == user


def test_an_act_that_cannot_be_logged_is_done_all_the_same(
    breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_circuit_breaker(name="y")

    def away(**fields: Any) -> Any:
        raise DatabaseError("away")

    monkeypatch.setattr(LogEntry.objects, "create", away)
    for done in act("open", "x", "y"):
        assert (done.row.status, done.error) == ("applied", "Django's log could not be written: away")
    assert OperatorAct.objects.filter(status="applied").count() == 2


@pytest.mark.parametrize("error", [IntegrityError("born: NOT NULL"), TypeError("is_active"), ValidationError("born")])
def test_where_nobody_can_stand_in_there_is_a_warning_in_place_of_an_entry(
    breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def refuse(**fields: Any) -> Any:
        raise error

    monkeypatch.setattr(User.objects, "get_or_create", refuse)
    (done,) = act("open", source="api")
    assert (done.row.status, done.error) == ("applied", "")
    assert "nobody can stand in for breaker-api" in caplog.text
    assert not LogEntry.objects.exists()


def test_no_act_is_put_down_to_a_person_who_bears_the_stand_ins_name(
    breaker: SharedCircuitBreaker, caplog: pytest.LogCaptureFixture
) -> None:
    User.objects.create_user("breaker-api", password="x")
    assert act("open", source="api")[0].error == ""
    assert "breaker-api can log in" in caplog.text
    assert not LogEntry.objects.exists()


def test_what_breaks_the_logs_transaction_leaves_the_rows_whole(
    breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**fields: Any) -> Any:
        with connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM nowhere")

    create_circuit_breaker(name="y")
    monkeypatch.setattr(LogEntry.objects, "create", broken)
    assert [done.row.status for done in act("open", "x", "y", source="api")] == ["applied"] * 2
    assert not User.objects.filter(username="breaker-api").exists()
    assert OperatorAct.objects.filter(status="applied").count() == 2


def test_the_log_says_how_long_an_act_that_failed_was_to_last(house: House, breaker: SharedCircuitBreaker) -> None:
    house.lose_store()
    act("open", for_seconds=60)
    assert LogEntry.objects.get().change_message == "Force open, for 60 s: a test (not done: cut); by ada, admin"


def test_the_log_knows_an_act_whose_row_could_not_be_written(
    breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_circuit_breaker(name="y")
    lose_database_at("y", monkeypatch)
    act("open", "x", "y", source="command")
    said = LogEntry.objects.get(object_id="y").change_message
    assert said.startswith("Force open, until released: a test (not done: the database")
    assert said.endswith("by ada, command")


def test_where_there_is_no_admin_there_is_no_log(
    breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(django_log.apps, "is_installed", lambda name: name != "django.contrib.admin")
    assert act("open")[0].error == ""
    assert not LogEntry.objects.exists()


# -- others are quicker ------------------------------------------------------------------------------------------------


def seen_now(*names: str) -> dict[str, str]:
    return {entry.name: desk.seen(entry.snapshot) for entry in queries.status(names).entries}


def test_an_act_over_what_was_seen_yields_to_one_that_came_first(breaker: SharedCircuitBreaker) -> None:
    create_circuit_breaker(name="y")
    seen = seen_now("x", "y")
    act("close", actor="grace")
    x, y = act("open", "x", "y", actor="ann", over=seen)
    assert (x.overtaken, x.row.status, x.error) == (True, "failed", "others have changed it since it was seen")
    assert (y.overtaken, y.row.status, y.error) == (False, "applied", "")
    assert (entry().forced, entry().snapshot.acted["actor"]) == ("closed", "grace")
    assert not act("open", over=seen_now("x"))[0].overtaken


def test_of_two_who_act_at_once_one_is_told_that_he_lost(over_redis: Callable[[], Sync]) -> None:
    """Only the store can say who was first."""
    sync = over_redis()
    create_circuit_breaker(name="x")
    start = threading.Barrier(2)

    def do(action: Action, saw: str) -> str:
        wanted = machine.Act(id=secrets.token_hex(8), action=action, actor=action.value)
        start.wait()
        try:
            desk.act(sync, "x", wanted, {"kind": "operation"}, over=saw)
        except desk.Overtaken:
            return "overtaken"
        return action.value

    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            went = list(pool.map(do, (Action.OPEN, Action.CLOSE), [seen_now("x")["x"]] * 2))
            assert went.count("overtaken") == 1
            assert entry().snapshot.acted["actor"] in went


def test_a_reason_that_is_too_long_is_refused_at_every_door(breaker: SharedCircuitBreaker) -> None:
    with pytest.raises(ActRefused, match="2001 characters; say it in 2000"):
        act("open", reason="a" * 2001)
    act("open", reason="a" * 2000)


@pytest.mark.parametrize("character", ["\0", "\udcff"])
@pytest.mark.parametrize("field", ["reason", "actor"])
def test_what_databases_cannot_keep_is_refused(breaker: SharedCircuitBreaker, field: str, character: str) -> None:
    with pytest.raises(ActRefused) as raised:
        act("open", **{field: f"a{character}b"})
    assert str(raised.value) == f"{field}: holds {character!r}, which databases cannot keep; leave it out"
    assert not OperatorAct.objects.exists()


def test_row_event_and_log_name_the_same_actor(breaker: SharedCircuitBreaker, caplog: pytest.LogCaptureFixture) -> None:
    act("open", actor="b" * 300)
    assert {row().actor, entry().snapshot.acted["actor"], *(vars(one).get("actor") for one in caplog.records)} == {
        "b" * 200
    }
    assert f"by {'b' * 200}, admin" in LogEntry.objects.get().change_message


def test_each_breaker_has_its_row_and_a_name_said_twice_one(breaker: SharedCircuitBreaker) -> None:
    create_circuit_breaker(name="y")
    act("open", "x", "y", "x")
    assert sorted(OperatorAct.objects.values_list("breaker", flat=True)) == ["x", "y"]


def test_an_act_is_logged(breaker: SharedCircuitBreaker, caplog: pytest.LogCaptureFixture) -> None:
    act("open", reason="maintenance")
    (record,) = [record for record in caplog.records if record.name == "breaker"]
    assert record.getMessage() == "Circuit breaker x: open by ada (admin): maintenance"
    assert (record.levelname, vars(record)["operation"], vars(record)["actor"]) == ("WARNING", "open", "ada")


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_a_reason_is_needed(breaker: SharedCircuitBreaker, reason: str) -> None:
    with pytest.raises(ActRefused, match="reason"):
        act("open", reason=reason)
    assert not OperatorAct.objects.exists()


def test_an_unknown_action_says_which_there_are(breaker: SharedCircuitBreaker) -> None:
    with pytest.raises(ActRefused, match="action='trip': one of open, close, release, disable, enable, reset"):
        act("trip")


@pytest.mark.parametrize("seconds", [0, -1, True, math.nan, math.inf, 366 * 24 * 3600 + 1])
def test_a_duration_out_of_bounds_is_refused(breaker: SharedCircuitBreaker, seconds: float) -> None:
    with pytest.raises(ActRefused, match="for_seconds="):
        act("open", for_seconds=seconds)
    assert not OperatorAct.objects.exists()


@pytest.mark.parametrize("seconds", [0.001, 0.5, 366 * 24 * 3600])
def test_a_duration_within_bounds_is_taken(breaker: SharedCircuitBreaker, seconds: float) -> None:
    act("open", for_seconds=seconds)
    assert entry().forced == "open"


@pytest.mark.parametrize("action", ["reset", "release"])
def test_what_lasts_no_time_has_no_duration(breaker: SharedCircuitBreaker, action: str) -> None:
    with pytest.raises(ActRefused, match="has no duration"):
        act(action, for_seconds=5)


def test_an_unknown_name_says_which_there_are_and_the_closest(breaker: SharedCircuitBreaker) -> None:
    create_circuit_breaker(name="MIFOS-Maker-get"), create_circuit_breaker(name="MIFOS-Maker-put")
    with pytest.raises(UnknownBreaker) as raised:
        act("open", "mifos-maker-putt")
    assert str(raised.value) == (
        "no breaker 'mifos-maker-putt'; the closest is MIFOS-Maker-put; there are x, MIFOS-Maker-get, MIFOS-Maker-put"
    )


def test_of_many_breakers_only_the_nearest_are_named(house: House) -> None:
    for number in range(1000):
        create_circuit_breaker(name=f"bank-{number}")
    with pytest.raises(UnknownBreaker) as raised:
        act("open", "bank-99x")
    assert "the closest is bank-99" in str(raised.value)
    assert str(raised.value).count("bank-") == 1 + 1 + operations.NAMED
    assert str(raised.value).endswith(", 995 more")


@pytest.mark.parametrize("name", ["\udcff", "a\0b", ""])
def test_what_can_be_no_name_is_unknown_and_costs_no_process_the_store(
    over_redis: Callable[[], Sync], name: str
) -> None:
    sync = over_redis()
    sync.beat()
    with pytest.raises(UnknownBreaker, match=r"there are none$"):
        act("open", name)
    assert sync.sharing


def test_one_unknown_name_keeps_all_from_being_done(breaker: SharedCircuitBreaker) -> None:
    with pytest.raises(UnknownBreaker):
        act("open", "x", "unknown")
    assert (entry().forced, OperatorAct.objects.count()) == (None, 0)


def test_an_unknown_name_while_the_store_is_away_says_that_others_cannot_be_seen(house: House) -> None:
    house.elsewhere("theirs")
    house.lose_store()
    with pytest.raises(UnknownBreaker, match="the shared store is away"):
        act("open", "theirs")


# -- the store is away -------------------------------------------------------------------------------------------------


def test_an_act_without_the_store_fails_and_says_so(house: House, breaker: SharedCircuitBreaker) -> None:
    house.lose_store()
    (done,) = act("open")
    assert (done.error, row().status, row().error, row().applied_at) == ("cut", "failed", "cut", None)


def test_an_act_that_failed_changes_nothing_here_either(house: House, breaker: SharedCircuitBreaker) -> None:
    house.lose_store()
    act("open")
    assert not rejected(breaker)


def test_an_act_that_failed_is_never_applied_later(house: House, breaker: SharedCircuitBreaker) -> None:
    house.here.on_lost_data = operations.apply_again
    house.lose_store()
    act("open")
    house.store._empty()  # type: ignore[attr-defined]
    house.cable.cut = False
    house.advance(3)
    assert house.here.sharing
    assert (entry().forced, row().status) == (None, "failed")


def test_one_that_fails_does_not_keep_the_others_from_being_done(
    house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_circuit_breaker(name="y")
    real = desk.act

    def cut_off_x(sync: Any, name: str, *args: Any, **more: Any) -> Any:
        house.cable.cut = name == "x"
        return real(sync, name, *args, **more)

    monkeypatch.setattr(desk, "act", cut_off_x)
    assert [done.error for done in act("open", "x", "y")] == ["cut", ""]


# -- the store has lost it ---------------------------------------------------------------------------------------------


class Reborn:
    """A process newly begun over a store that has lost everything: only the rows know."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        self.house, self.monkeypatch = house, monkeypatch

    def __call__(self) -> SharedCircuitBreaker:
        from breaker.registry import registry

        self.house.workers.clear()
        self.house.store._empty()  # type: ignore[attr-defined]
        worker = self.house.worker()
        worker.on_lost_data = operations.apply_again
        self.house.workers.append(worker)
        self.monkeypatch.setattr(registry, "_circuits", {})
        self.monkeypatch.setattr(registry, "_sync", worker)
        made = create_circuit_breaker(name="x").breaker
        self.house.advance(1.25)
        return made


@pytest.fixture
def reborn(house: House, breaker: SharedCircuitBreaker, monkeypatch: pytest.MonkeyPatch) -> Reborn:
    return Reborn(house, monkeypatch)


def test_a_process_that_remembers_gives_it_back_without_the_database(
    house: House, breaker: SharedCircuitBreaker
) -> None:
    act("open")
    house.store._empty()  # type: ignore[attr-defined]
    house.advance(1.25)
    assert entry().forced == "open"


def test_an_act_is_applied_again(reborn: Reborn) -> None:
    act("open")
    assert rejected(reborn())


def test_an_act_with_an_end_is_applied_again_for_what_is_left(house: House, reborn: Reborn) -> None:
    act("open", for_seconds=600)
    house.clock.advance(100)
    reborn()
    assert entry().retry_after in (498, 499, 500)


def test_an_act_that_has_ended_is_not_applied_again(reborn: Reborn) -> None:
    act("open", for_seconds=60)
    OperatorAct.objects.update(until=row().applied_at)
    reborn()
    assert (entry().forced, entry().snapshot.act_at) == (None, 0)


def test_what_was_released_stays_released(house: House, reborn: Reborn) -> None:
    act("open")
    house.clock.advance(1)
    act("release")
    assert not rejected(reborn())


def test_an_ended_force_does_not_bring_back_the_one_before_it(house: House, reborn: Reborn) -> None:
    act("open")
    house.clock.advance(1)
    act("close", for_seconds=60)
    OperatorAct.objects.filter(action="close").update(until=OperatorAct.objects.get(action="open").applied_at)
    reborn()
    assert entry().forced is None


def test_force_and_switch_both_come_back(house: House, reborn: Reborn) -> None:
    act("open")
    house.clock.advance(1)
    act("disable")
    reborn()
    assert (entry().forced, entry().enabled) == ("open", False)


def test_a_reset_forgets_force_and_switch(house: House, reborn: Reborn) -> None:
    for action in ("open", "disable", "reset"):
        act(action)
        house.clock.advance(1)
    reborn()
    assert (entry().forced, entry().enabled) == (None, True)


def test_a_newer_act_wins_over_one_that_is_applied_again(house: House, breaker: SharedCircuitBreaker) -> None:
    act("open")
    house.clock.advance(1)
    act("close")
    OperatorAct.objects.filter(action="close").delete()
    operations.apply_again(["x"])
    assert entry().forced == "closed"


def test_applying_again_leaves_no_second_row(reborn: Reborn) -> None:
    act("open")
    reborn()
    assert (OperatorAct.objects.count(), row().status) == (1, "applied")


def test_a_pending_act_is_not_applied_again(reborn: Reborn) -> None:
    act("open")
    OperatorAct.objects.update(status="pending")
    assert not rejected(reborn())


def test_a_database_that_is_away_does_not_keep_a_process_from_the_shared_state(
    house: House, reborn: Reborn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(names: Any) -> Any:
        raise OSError("no such host")

    monkeypatch.setattr(operations, "_latest_acts", away)
    assert reborn().sync.sharing
    assert "could not be looked up to apply them again: no such host" in caplog.text


# -- over a real Redis -------------------------------------------------------------------------------------------------


def test_over_redis_an_act_reaches_another_process(over_redis: Callable[[], Sync]) -> None:
    over_redis().beat()
    create_circuit_breaker(name="x")
    act("open")
    other = over_redis()
    guarded = create_circuit_breaker(name="x")
    other.beat()
    assert rejected(guarded.breaker)


def test_over_redis_an_act_fails_while_it_is_away(own_redis: RedisServer, over_own_redis: Callable[[], Sync]) -> None:
    over_own_redis().beat()
    create_circuit_breaker(name="x")
    own_redis.kill()
    (done,) = act("open")
    assert (row().status, bool(done.error)) == ("failed", True)


def test_over_redis_a_new_process_brings_back_what_a_restart_has_lost(
    own_redis: RedisServer, over_own_redis: Callable[[], Sync]
) -> None:
    over_own_redis().beat()
    create_circuit_breaker(name="x"), create_circuit_breaker(name="y"), create_circuit_breaker(name="z")
    act("open", "x"), act("close", "y", for_seconds=3600), act("open", "z", for_seconds=60)
    OperatorAct.objects.filter(breaker="z").update(until=timezone.now())
    own_redis.restart()
    reborn = over_own_redis()
    for name in ("x", "y", "z"):
        create_circuit_breaker(name=name)
    reborn.beat()
    assert [one.forced for one in queries.status(["x", "y", "z"]).entries] == ["open", "closed", None]

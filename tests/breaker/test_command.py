"""manage.py breaker, as its user sees it: what it prints and with which code it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import OperationalError

from breaker import conf, queries, timeline
from breaker.engine.sync import Sync
from breaker.models import MinuteSample, OperatorAct, Series
from breaker.registry import create_circuit_breaker
from breaker.testing import fail, succeed
from tests.breaker.conftest import House
from tests.programs import RedisServer

pytestmark = pytest.mark.django_db


class Ran:
    """One run of the command."""

    def __init__(self, *words: str) -> None:
        out, err = StringIO(), StringIO()
        self.code: Any = 0
        try:
            call_command("breaker", *words, stdout=out, stderr=err, no_color=True)
        except SystemExit as end:
            self.code = end.code
        except CommandError as error:
            self.code = error.returncode
            err.write(str(error))
        self.out, self.err = out.getvalue(), err.getvalue()


@pytest.fixture(autouse=True)
def _breakers(house: House) -> None:
    create_circuit_breaker(name="MIFOS-Maker-get"), create_circuit_breaker(name="MIFOS-Maker-put")


def open_one() -> None:
    from breaker.registry import get_breaker

    fail(get_breaker("MIFOS-Maker-get"), 5)


def forced() -> list[str | None]:
    return [entry.forced for entry in queries.status().entries]


# -- status ------------------------------------------------------------------------------------------------------------


def test_status_is_a_table_with_a_line_for_each_breaker() -> None:
    head, *lines = Ran("status").out.splitlines()
    assert head.split()[:3] == ["NAME", "STATE", "FORCED"]
    assert [line.split()[0] for line in lines] == ["MIFOS-Maker-get", "MIFOS-Maker-put"]


def test_status_shows_numbers_and_when_to_come_back() -> None:
    open_one()
    line = Ran("status").out.splitlines()[1]
    assert line.split()[:11] == [
        "MIFOS-Maker-get",
        "OPEN",
        "(60",
        "s)",
        "100.00%",
        "5",
        "5",
        "0",
        "0",
        "0.01",
        "failing",
    ]


def test_the_tables_columns_stand_in_line() -> None:
    open_one()
    head, *lines = Ran("status").out.splitlines()
    assert {line[head.index("STATE") - 2 : head.index("STATE")] for line in lines} == {"  "}


def test_status_ends_with_0_while_none_is_open() -> None:
    assert Ran("status").code == 0


def test_status_ends_with_1_while_any_is_open() -> None:
    open_one()
    assert Ran("status").code == 1


def test_status_ends_with_1_while_one_made_elsewhere_is_open(house: House) -> None:
    fail(house.elsewhere("theirs"), 5)
    ran = Ran("status")
    assert (ran.code, "theirs" in ran.out) == (1, True)


def test_status_ends_with_0_while_one_is_on_trial(house: House) -> None:
    open_one()
    house.advance(60)
    assert Ran("status").code == 0


def test_status_of_some_judges_only_those() -> None:
    open_one()
    ran = Ran("status", "MIFOS-Maker-put")
    assert (ran.code, "MIFOS-Maker-get" in ran.out) == (0, False)


def test_status_json_is_the_endpoints_data(client: Any) -> None:
    succeed(create_circuit_breaker(name="MIFOS-Maker-get").breaker, 3)
    printed, served = json.loads(Ran("status", "--json").out), client.get("/api/v1/circuit-breaker/status").json()
    for data in (printed, served["data"]):
        del data["timestamp"]
    assert printed == served["data"]


def test_status_json_of_some_is_by_name() -> None:
    printed = json.loads(Ran("status", "MIFOS-Maker-put", "--json").out)
    assert (list(printed), printed["MIFOS-Maker-put"]["state"]) == (["MIFOS-Maker-put"], "CLOSED")


def test_status_json_ends_with_1_while_any_is_open() -> None:
    open_one()
    assert Ran("status", "--json").code == 1


def test_status_ends_with_2_while_the_store_is_away(house: House) -> None:
    house.cable.cut = True
    ran = Ran("status")
    assert (ran.code, ran.out, ran.err) == (2, "", "the shared store could not be asked: cut")


def test_status_ends_with_2_for_a_wrong_name_and_says_which_there_are() -> None:
    ran = Ran("status", "MIFOS-Maker-pout")
    assert ran.code == 2
    assert "the closest is MIFOS-Maker-put; there are MIFOS-Maker-get, MIFOS-Maker-put" in ran.err


@pytest.mark.usefixtures("alone")
def test_status_ends_with_2_without_a_store_for_it_would_see_only_itself() -> None:
    ran = Ran("status")
    assert (ran.code, ran.out, "no shared store is configured" in ran.err) == (2, "", True)


# -- acts --------------------------------------------------------------------------------------------------------------


def test_an_act_is_done_and_told() -> None:
    ran = Ran("open", "MIFOS-Maker-get", "--reason", "maintenance")
    assert (ran.code, ran.out) == (0, "MIFOS-Maker-get: CLOSED -> OPEN (open)\n")
    assert forced() == ["open", None]


def test_an_act_with_an_end_tells_it() -> None:
    ran = Ran("open", "MIFOS-Maker-get", "--reason", "maintenance", "--for", "60")
    assert queries.timestamp(OperatorAct.objects.get().until) in ran.out  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", ["reset", "open", "close", "release", "enable", "disable"])
def test_every_verb_acts_on_all(verb: str) -> None:
    assert Ran(verb, "--all", "--reason", "a test").code == 0
    assert [row.action for row in OperatorAct.objects.all()] == [verb, verb]


def test_all_are_also_those_made_elsewhere(house: House) -> None:
    house.elsewhere("theirs")
    Ran("open", "--all", "--reason", "a test")
    assert forced() == ["open"] * 3


def test_an_act_is_kept_with_its_author(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    Ran("open", "MIFOS-Maker-get", "--reason", "maintenance")
    row = OperatorAct.objects.get()
    assert (row.actor, row.source, row.reason) == ("ada", "command", "maintenance")


def test_an_author_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1000650000")

    monkeypatch.setattr("getpass.getuser", nobody)
    Ran("open", "MIFOS-Maker-get", "--reason", "maintenance")
    assert OperatorAct.objects.get().actor.startswith("uid ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["open", "MIFOS-Maker-get"], "--reason"),
        (["open", "--reason", "x"], "one of the arguments NAME --all is required"),
        (["open", "MIFOS-Maker-get", "--all", "--reason", "x"], "not allowed with"),
        (["open", "MIFOS-Maker-get", "--reason", "x", "--for", "soon"], "invalid float value: 'soon'"),
        (["trip", "MIFOS-Maker-get"], "invalid choice: 'trip'"),
        ([], "VERB"),
    ],
)
def test_what_is_missing_or_wrong_on_the_line_is_named(words: list[str], said: str) -> None:
    assert said in Ran(*words).err
    assert not OperatorAct.objects.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["open", "MIFOS-Maker-get", "--reason", " "], "reason: say why"),
        (["open", "MIFOS-Maker-get", "--reason", "x", "--for", "0"], "for_seconds=0.0"),
        (["reset", "MIFOS-Maker-get", "--reason", "x", "--for", "5"], "reset has no duration"),
        (["open", "MIFOS-Maker-got", "--reason", "x"], "the closest is MIFOS-Maker-get"),
        (["open", "MIFOS-Maker-get", "zzz", "--reason", "x"], "there are MIFOS-Maker-get, MIFOS-Maker-put"),
    ],
)
def test_what_is_refused_ends_with_2_and_says_why(words: list[str], said: str) -> None:
    ran = Ran(*words)
    assert (ran.code, said in ran.err) == (2, True)
    assert not OperatorAct.objects.exists()


def test_an_act_while_the_store_is_away_ends_with_2_and_is_kept_as_failed(house: House) -> None:
    house.cable.cut = True
    ran = Ran("open", "MIFOS-Maker-get", "--reason", "x")
    assert (ran.code, ran.out) == (2, "")
    assert "MIFOS-Maker-get: failed, and will not be applied: cut" in ran.err
    assert OperatorAct.objects.get().status == "failed"


def test_an_act_while_the_database_is_away_ends_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**fields: Any) -> None:
        raise OperationalError("no such host")

    monkeypatch.setattr(OperatorAct.objects, "create", away)
    ran = Ran("open", "MIFOS-Maker-get", "--reason", "x")
    assert (ran.code, "could not be asked: no such host" in ran.err) == (2, True)
    assert forced() == [None, None]


def test_an_act_that_only_djangos_log_lacks_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(**fields: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(LogEntry.objects, "create", away)
    ran = Ran("open", "MIFOS-Maker-get", "--reason", "x")
    assert (ran.code, ran.out) == (0, "MIFOS-Maker-get: CLOSED -> OPEN (open)\n")
    assert ran.err == "MIFOS-Maker-get: done, but Django's log could not be written: away\n"


@pytest.mark.usefixtures("alone")
def test_an_act_without_a_store_is_refused_because_no_worker_would_hear_of_it() -> None:
    create_circuit_breaker(name="x")
    ran = Ran("open", "x", "--reason", "x")
    assert (ran.code, "would steer only itself" in ran.err) == (2, True)


# -- over a real Redis -------------------------------------------------------------------------------------------------


def test_over_redis_the_command_sees_and_steers_what_others_made(over_redis: Callable[[], Sync]) -> None:
    gateway = over_redis()
    theirs = create_circuit_breaker(name="theirs").breaker
    gateway.beat()
    fail(theirs, 5)
    over_redis()  # the command's own process: it has made nothing
    assert Ran("status", "theirs").code == 1
    assert Ran("reset", "theirs", "--reason", "x").out == "theirs: OPEN -> CLOSED (reset)\n"
    gateway.listen(0.5)
    assert theirs.current_state == "closed"


def test_over_redis_status_ends_with_2_once_it_is_gone(
    own_redis: RedisServer, over_own_redis: Callable[[], Sync]
) -> None:
    over_own_redis()
    own_redis.kill()
    assert Ran("status").code == 2


def test_over_redis_status_ends_with_2_while_it_hangs(
    own_redis: RedisServer, over_own_redis: Callable[[], Sync]
) -> None:
    over_own_redis()
    own_redis.pause()
    assert Ran("status").code == 2


# -- history -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def _history(settings: Any) -> None:
    settings.BREAKER = {**settings.BREAKER, "HISTORY": True}


@pytest.mark.usefixtures("_history")
def test_history_tells_what_happened_the_oldest_first(house: House) -> None:
    open_one()
    house.advance(5)
    Ran("disable", "MIFOS-Maker-put", "--reason", "an upgrade,\nlong awaited")
    head, opened, disabled = Ran("history").out.splitlines()
    assert head.split()[:2] == ["AT", "(UTC)"]
    assert opened.split()[2:4] == ["MIFOS-Maker-get", "OPEN"]
    assert "failures=5" in opened
    assert disabled.split()[2:6] == ["MIFOS-Maker-put", "disable", "->", "CLOSED"]
    assert disabled.endswith("(command)  an upgrade, long awaited")


@pytest.mark.usefixtures("_history")
def test_history_of_one_tells_how_available_it_was(house: House) -> None:
    open_one()
    house.advance(60)
    first, head, point, *_ = Ran("history", "MIFOS-Maker-get", "--since", "1h").out.splitlines()
    assert first.startswith("MIFOS-Maker-get: 98.3")
    assert "opened 1 time, OPEN for 1 min 0 s in all" in first
    assert head.startswith("FROM (UTC)")
    assert point.split()[2:5] == ["5", "5", "0"]


@pytest.mark.usefixtures("_history")
def test_history_as_json_has_what_the_rest_api_has(house: House) -> None:
    open_one()
    shown = json.loads(Ran("history", "MIFOS-Maker-get", "--json").out)
    assert [*shown] == ["from", "to", "breaker", "summary", "history", "events"]
    assert [event["to"] for event in shown["events"]] == ["OPEN"]
    assert sum(point["failures"] for point in shown["history"]) == 5
    assert shown["summary"]["openings"] == 1
    assert [*json.loads(Ran("history", "--json").out)] == ["from", "to", "events"]


@pytest.mark.usefixtures("_history")
def test_history_of_a_breaker_that_is_gone_and_never_opened() -> None:
    series = Series.objects.create(namespace=conf.namespace(), breaker="gone", store="s")
    at = timeline.now().replace(second=0, microsecond=0) - timedelta(minutes=5)
    MinuteSample.objects.create(series=series, at=at, successes=7)
    ran = Ran("history", "gone", "--since", "1h")
    assert ran.code == 0
    assert ran.out.splitlines()[2].split()[2:4] == ["7", "0"]


@pytest.mark.usefixtures("_history")
def test_history_of_nothing() -> None:
    assert Ran("history").out.startswith("Nothing happened since ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["history", "MIFOS-Maker-gte"], "closest is MIFOS-Maker-get"),
        (["history", "--since", "yesterday"], "--since='yesterday'"),
        (["history", "MIFOS-Maker-get", "--since", "0001-01-01T00:00:00+12:00"], "--since='0001-01-01T00:00:00+12:00'"),
        (["watch", "--every", "0", "--times", "1"], "--every is 0"),
        (["watch", "MIFOS-Maker-gte", "--times", "1"], "closest is MIFOS-Maker-get"),
    ],
)
def test_what_cannot_be_is_named(words: list[str], said: str) -> None:
    ran = Ran(*words)
    assert ran.code == 2
    assert said in ran.err


def test_history_without_its_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr("breaker.timeline.events", away)
    ran = Ran("history")
    assert (ran.code, "could not be asked: away" in ran.err) == (2, True)


# -- watch -------------------------------------------------------------------------------------------------------------


def test_watch_shows_trouble_first_again_and_again() -> None:
    from breaker.registry import get_breaker

    fail(get_breaker("MIFOS-Maker-put"), 5)
    ran = Ran("watch", "--times", "2", "--every", "0.01")
    tables = ran.out.split("NAME ")[1:]
    assert [table.splitlines()[1].split()[:2] for table in tables] == [["MIFOS-Maker-put", "OPEN"]] * 2


def test_watch_says_that_the_store_is_away_and_goes_on(house: House) -> None:
    house.lose_store()
    ran = Ran("watch", "--times", "2", "--every", "0.01")
    assert ran.code == 0
    assert ran.out.count("the shared store could not be asked") == 2


def test_watch_ends_quietly_by_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    ran = Ran("watch", "MIFOS-Maker-get")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0].endswith(", 1 breaker")


def test_who_has_read_enough_ends_it_quietly(tmp_path: Path) -> None:
    """As `| head -1` does."""
    reads, writes = os.pipe()
    os.close(reads)
    ended = subprocess.run(
        [sys.executable, "manage.py", "breaker", "watch", "--times", "2", "--every", "0.01"],
        stdout=writes,
        stderr=subprocess.PIPE,
        env={"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3", "DJANGO_DEBUG": "true", "PATH": os.environ["PATH"]},
        timeout=60,
        check=False,
    )
    os.close(writes)
    assert (ended.returncode, ended.stderr.decode()) == (0, "")

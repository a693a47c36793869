"""The dashboard: what it says, what it shows, who may see it, and what its script is answered each second."""

import gzip
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.staticfiles import finders
from django.test import Client, RequestFactory

from breaker import dashboard, operations, pages, queries
from breaker.dashboard import Board, Card, Filter, Spark
from breaker.engine.circuit import SharedCircuitBreaker
from breaker.engine.sync import Sync
from breaker.queries import Change, Minute, Overview, Worker
from breaker.registry import Labels, create_circuit_breaker
from breaker.templatetags import breaker_cards
from breaker.templatetags.breaker_times import duration
from breaker.testing import Clock, fail, succeed
from tests.breaker.conftest import House
from tests.breaker.watchers import BOARD, LIVE, browser, fresh_watch, operator, person, viewer, words

__all__ = ["fresh_watch", "operator", "viewer"]
pytestmark = pytest.mark.django_db
Twelve = dict[tuple[str, str], SharedCircuitBreaker]


def act(name: str, action: str, **more: Any) -> None:
    (done,) = operations.act([name], action, actor="ada", source="command", reason="a test", **more)
    assert not done.error


def shown(**asked: str) -> Board:
    return dashboard.board(queries.overview(), Filter.of(asked))


def names(board: Board) -> list[str]:
    return [card.name for card in board.page]


def card(name: str) -> Card:
    return next(card for card in dashboard.cards(queries.overview()) if card.name == name)


def sentence(client: Client) -> str:
    page = client.get(BOARD).content.decode()
    (found,) = re.findall(r'<p class="sentence">(.*?)</p>', page, re.DOTALL)
    return words(found)


# -- the sentence ------------------------------------------------------------------------------------------------------


def test_calm(twelve: Twelve, viewer: Client) -> None:
    succeed(twelve["maker", "get"])
    assert sentence(viewer) == "MIFOS is answering: 12 of 12 closed."


def test_calm_without_a_call_is_not_answering(twelve: Twelve, viewer: Client) -> None:
    assert sentence(viewer) == "MIFOS has not been called lately: 12 of 12 closed."


def test_a_few_calls_that_all_failed_are_no_calm(twelve: Twelve, viewer: Client) -> None:
    for key in ("get", "post"):
        fail(twelve["maker", key], 2)
    assert sentence(viewer) == "MIFOS: all recent calls failed, too few to judge; 12 of 12 closed."
    assert shown().sentence.tone == "watch"


def test_one_success_is_an_answer(twelve: Twelve, viewer: Client) -> None:
    fail(twelve["maker", "post"], 4)
    succeed(twelve["maker", "get"])
    assert sentence(viewer) == "MIFOS is answering: 12 of 12 closed."


def test_a_custom_breaker_tells_nothing_of_the_service(twelve: Twelve, viewer: Client) -> None:
    succeed(create_circuit_breaker(name="other", labels=Labels(service="Mail")).breaker)
    assert sentence(viewer) == "MIFOS has not been called lately: 12 of 12 closed."


def test_a_custom_breaker_that_fails_is_no_calm(twelve: Twelve) -> None:
    breaker = create_circuit_breaker(name="other", volume_threshold=5).breaker
    breaker.outcomes.extend((breaker.snapshot.id, 0.1, "f") for _ in range(5))
    succeed(twelve["maker", "get"])
    said = "MIFOS is answering: 12 of 12 closed; recent errors above the threshold: other"
    assert (shown().sentence.text, shown().sentence.tone) == (said, "watch")


def test_no_breaker(house: House, viewer: Client) -> None:
    assert sentence(viewer) == "No breaker has been seen yet."


def test_open(twelve: Twelve, viewer: Client, house: House) -> None:
    fail(twelve["maker", "post"], 5)
    house.advance(48)
    said = sentence(viewer)
    assert re.fullmatch(r"1 breaker OPEN: Maker POST since \d\d:\d\d:\d\d UTC \(48 s\), next trial in 12 s", said), said


def test_several_open_name_the_first_three(twelve: Twelve) -> None:
    for key in ("get", "post", "put", "patch"):
        fail(twelve["maker", key], 5)
    said = shown().sentence
    assert (said.text, [card.label for card in said.named], said.more) == (
        "4 breakers OPEN:",
        ["Maker GET", "Maker POST", "Maker PUT"],
        ", and 1 more",
    )


def test_on_trial(twelve: Twelve, viewer: Client, house: House) -> None:
    fail(twelve["maker", "post"], 5)
    house.advance(61)
    assert sentence(viewer).startswith("1 breaker on trial: Maker POST since ")


def test_forced_open_counts_as_open(twelve: Twelve, viewer: Client) -> None:
    act("MIFOS-Maker-post", "open", for_seconds=600)
    assert re.fullmatch(
        r"1 breaker OPEN: Maker POST forced open since [\d:]+ UTC \(0 s\), until [\d:]+ UTC", sentence(viewer)
    )


@pytest.mark.parametrize(("action", "words"), [("close", "forced closed"), ("disable", "disabled")])
def test_what_an_operator_holds_is_no_calm(twelve: Twelve, viewer: Client, action: str, words: str) -> None:
    succeed(twelve["maker", "get"])
    act("MIFOS-Maker-post", action)
    assert sentence(viewer).startswith(f"1 breaker held by an operator: Maker POST {words} since ")
    assert shown().sentence.tone == "watch"


def test_errors_that_the_window_still_holds(house: House) -> None:
    breaker = create_circuit_breaker(name="x", volume_threshold=5, error_threshold_percentage=50).breaker
    generation = breaker.snapshot.id
    breaker.outcomes.extend((generation, 0.1, kind) for kind in "sfffff")
    said = "The service is answering: 1 of 1 closed; recent errors above the threshold: x"
    assert (shown().sentence.text, shown().sentence.tone) == (said, "watch")


def test_a_lost_store_is_told(twelve: Twelve, viewer: Client, house: House) -> None:
    house.lose_store()
    page = words(viewer.get(BOARD).content.decode())
    assert "The shared store is not followed, so these are this process's own numbers:" in page
    assert shown().sentence.tone == "watch"


def test_without_a_shared_store_it_says_so(alone: Sync, viewer: Client) -> None:
    create_circuit_breaker(name="x")
    assert "no shared store is configured (CACHES['breaker'])" in words(viewer.get(BOARD).content.decode())


def test_the_title_follows_the_state_and_does_not_move_each_second(
    twelve: Twelve, viewer: Client, house: House
) -> None:
    fail(twelve["maker", "post"], 5)
    titles = set()
    for _ in range(3):
        titles |= set(re.findall("<title>(.*?)</title>", viewer.get(BOARD).content.decode()))
        house.advance(1)
    assert titles == {"▲ 1 breaker OPEN: Maker POST"}


def test_what_else_is_wrong_is_counted(twelve: Twelve, house: House) -> None:
    fail(twelve["maker", "get"], 5)
    house.advance(61)
    fail(twelve["maker", "put"], 5)
    act("MIFOS-Maker-post", "close")
    assert shown().sentence.more == "; also 1 on trial, 1 held by an operator"


# -- the cards ---------------------------------------------------------------------------------------------------------


def test_cards_are_grouped_by_client(twelve: Twelve) -> None:
    create_circuit_breaker(name="other")
    assert [(group.name, len(group.cards)) for group in shown().groups] == [("maker", 6), ("checker", 6), ("custom", 1)]


def test_trouble_comes_first(twelve: Twelve) -> None:
    fail(twelve["checker", "delete"], 5)
    board = shown()
    assert [group.name for group in board.groups] == ["checker", "maker"]
    assert names(board)[0] == "MIFOS-Checker-delete"


def test_what_fails_below_its_threshold_moves_nothing(twelve: Twelve) -> None:
    before = names(shown())
    succeed(twelve["checker", "delete"], 5)
    fail(twelve["checker", "delete"], 1)
    assert names(shown()) == before


def test_by_name_trouble_stays_in_its_place(twelve: Twelve) -> None:
    fail(twelve["checker", "delete"], 5)
    board = shown(sort="name")
    assert names(board)[:2] == ["MIFOS-Maker-delete", "MIFOS-Maker-get"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"q": "maker-po"}, ["MIFOS-Maker-post"]),
        ({"q": "Checker PUT"}, ["MIFOS-Checker-put"]),
        ({"q": "nothing"}, []),
        ({"state": "OPEN"}, ["MIFOS-Maker-get", "MIFOS-Maker-put"]),
        ({"state": "forced"}, ["MIFOS-Maker-put"]),
        ({"state": "disabled"}, ["MIFOS-Checker-get"]),
        ({"state": "OPEN", "q": "get"}, ["MIFOS-Maker-get"]),
        ({"state": "HALF_OPEN"}, []),
    ],
)
def test_the_filter(twelve: Twelve, asked: dict[str, str], found: list[str]) -> None:
    fail(twelve["maker", "get"], 5)
    act("MIFOS-Maker-put", "open")
    act("MIFOS-Checker-get", "disable")
    assert names(shown(**asked)) == found


def test_an_unknown_filter_counts_as_none(twelve: Twelve) -> None:
    assert len(names(shown(state="'; --", p="x"))) == 12


def test_a_thousand_breakers_come_in_pages(house: House, viewer: Client) -> None:
    for number in range(1000):
        create_circuit_breaker(name=f"b{number:04}")
    fail(pages.registry.circuits["b0777"], 5)
    page = viewer.get(BOARD).content.decode()
    assert page.count('class="breaker ') == dashboard.PAGE
    assert names(shown())[0] == "b0777"
    assert shown(p="20").page.number == 20
    assert shown(p="99").page.number == 20


def test_a_card_shows_the_numbers_of_the_window_without_a_script(house: House, viewer: Client) -> None:
    breaker = create_circuit_breaker(name="x").breaker
    for seconds in (0.1, 0.2, 0.3):
        breaker.call(house.clock.advance, seconds)
    fail(breaker, 1)
    text = words(viewer.get(BOARD).content.decode())
    assert "errors 25.0 % limit 50 %" in text
    assert "calls/s0.1p50" in text
    assert "fires4successes3failures1timeouts0rejects0fallbacks0" in text
    assert "1 process on 1 host sees failures" in text


def test_a_card_says_how_far_its_state_can_be_trusted(twelve: Twelve, viewer: Client) -> None:
    fail(twelve["maker", "post"], 4)
    text = words(viewer.get(BOARD).content.decode())
    assert "errors 100.0 % limit 50 % ▲ too little traffic to judge" in text
    assert [card("MIFOS-Maker-post").rank, card("MIFOS-Maker-get").rank] == [3, 4]


def test_an_open_card_needs_no_judgement(twelve: Twelve) -> None:
    fail(twelve["maker", "post"], 5)
    assert card("MIFOS-Maker-post").judged == ""


def test_a_forced_card_shows_both_states(twelve: Twelve, viewer: Client) -> None:
    fail(twelve["maker", "get"], 5)
    act("MIFOS-Maker-get", "close", for_seconds=3600)
    assert card("MIFOS-Maker-get").shown == "CLOSED, forced closed"
    text = words(viewer.get(BOARD).content.decode())
    assert re.search(r"Forced closed until [\d:]+ UTC \(1 h\); by itself: OPEN", text)


def test_a_disabled_card_says_so(twelve: Twelve, viewer: Client) -> None:
    act("MIFOS-Maker-get", "disable")
    assert "Disabled: calls pass unguarded until released; by itself: CLOSED" in words(
        viewer.get(BOARD).content.decode()
    )


def test_what_the_options_disable_is_put_down_to_no_operator(house: House, viewer: Client) -> None:
    create_circuit_breaker(name="x", enabled=False)
    create_circuit_breaker(name="y")
    text = words(viewer.get(BOARD).content.decode())
    assert "has not been called lately: 1 of 2 closed, 1 disabled by its options." in text
    assert "Disabled by its options: calls pass unguarded; by itself: CLOSED" in text
    assert (shown().sentence.tone, shown(state="disabled").page.object_list[0].name) == ("calm", "x")


def test_a_force_does_not_begin_with_a_later_act(
    twelve: Twelve, house: House, viewer: Client, operator: Client
) -> None:
    act("MIFOS-Maker-get", "open")
    house.advance(60)
    assert card("MIFOS-Maker-get").since == card("MIFOS-Maker-get").act_at
    act("MIFOS-Maker-get", "enable")
    assert card("MIFOS-Maker-get").since is None
    assert "now OPEN, forced open since before" in words(
        operator.post(
            "/admin/breaker/act",
            {"name": "MIFOS-Maker-get", "action": "close", "confirmed": "1", "reason": "x", "lasts": "3600"},
        ).content.decode()
    )
    assert re.fullmatch(r"1 breaker OPEN: Maker GET forced open since before [\d:]+ UTC", sentence(viewer))


def test_without_a_histogram_there_is_no_latency(house: House) -> None:
    succeed(create_circuit_breaker(name="x", rolling_percentiles_enabled=False).breaker)
    assert [card("x").p50, card("x").p99] == ["-", "-"]


@pytest.mark.parametrize(("action", "shape"), [("open", "▲"), ("close", "●"), ("disable", "○")])
def test_each_state_has_a_shape(twelve: Twelve, action: str, shape: str) -> None:
    act("MIFOS-Maker-get", action)
    assert card("MIFOS-Maker-get").shape == shape


def with_more(**more: Any) -> Overview:
    found = queries.overview()
    fields = {name: getattr(found, name) for name in ("status", "lost", "workers", "age_ms", "recent", "changes")}
    return Overview(**(fields | more))


def test_the_sparkline_stands_minutes_where_they_belong(house: House) -> None:
    create_circuit_breaker(name="x")
    now = queries.overview().status.at.replace(second=0, microsecond=0)
    recent = [
        Minute(at=now - timedelta(minutes=20), failures=99),
        Minute(at=now - timedelta(minutes=10), successes=10),
        Minute(at=now, successes=3, failures=1, timeouts=1),
    ]
    (found,) = dashboard.cards(with_more(recent={"x": recent[1:]}))
    assert found.spark == Spark(calls="M0 100V0h8V100zM100 80V50h8V80z", failed="M100 100V80h8V100z")
    assert found.story == "Last 10 minutes: 15 calls, 2 failed"
    (late,) = dashboard.cards(with_more(recent={"x": recent}))
    assert late.spark.calls.count("M") == 2


def test_one_call_is_one_call(house: House) -> None:
    create_circuit_breaker(name="x")
    recent = [Minute(at=queries.overview().status.at, failures=1)]
    (found,) = dashboard.cards(with_more(recent={"x": recent}))
    assert found.story == "Last 10 minutes: 1 call, 1 failed"


def test_the_last_change_and_by_whom(house: House, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    create_circuit_breaker(name="x")
    change = Change(at=datetime(2026, 11, 23, 14, 2, 11, tzinfo=UTC), what="disable", actor="ada", reason="<upgrade>")
    found = with_more(changes={"x": change})
    monkeypatch.setattr(queries, "overview", lambda: found)
    assert "Disable, ada: <upgrade>" in words(viewer.get(BOARD).content.decode())


def test_a_worker_that_lags_is_named(house: House, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    create_circuit_breaker(name="x")
    workers = [
        Worker(process="7", host="one", age_ms=100, behind=0),
        Worker(process="8", host="two", age_ms=100, behind=3),
    ]
    house.advance(3)
    found = with_more(workers=workers, age_ms=250)
    monkeypatch.setattr(queries, "overview", lambda: found)
    text = words(viewer.get(BOARD).content.decode())
    assert "2 workers on 2 hosts report. ▲ 1 lags behind. Numbers are at most 3 s old." in text
    assert "8 on two: heard within 1 s, ▲ 3 changes behind" in text
    assert "7 on one: heard within 1 s, follows all changes" in text


def test_a_worker_that_is_silent_does_not_report(house: House, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    create_circuit_breaker(name="x")
    workers = [
        Worker(process="7", host="one", age_ms=1400, behind=0),
        Worker(process="8", host="two", age_ms=14_000, behind=0),
        Worker(process="9", host="two", age_ms=59_000, behind=2),
    ]
    found = with_more(workers=workers)
    monkeypatch.setattr(queries, "overview", lambda: found)
    text = re.sub(r"1[45] s|59 s|1 min", "S s", words(viewer.get(BOARD).content.decode()))
    assert "1 worker on 1 host reports. ▲ 2 are silent. Numbers" in text
    assert "7 on one: heard within 2 s, follows all changes" in text
    assert "8 on two: ▲ silent for S s, had followed all changes" in text
    assert "9 on two: ▲ silent for S s, 2 changes behind" in text


def test_who_has_not_followed_a_change_of_this_moment_does_not_lag(twelve: Twelve, house: House) -> None:
    house.advance(3)
    act("MIFOS-Maker-get", "open")
    slow = Worker(process="8", host="two", age_ms=100, behind=1)
    board = dashboard.board(with_more(workers=[slow]), Filter())
    assert (board.reporting, board.amiss) == ("1 worker on 1 host reports.", "")


def test_who_is_far_behind_lags_although_something_changes_all_the_time(twelve: Twelve, house: House) -> None:
    house.advance(3)
    act("MIFOS-Maker-get", "open")
    stuck = Worker(process="8", host="two", age_ms=100, behind=50)
    assert dashboard.board(with_more(workers=[stuck]), Filter()).amiss == "1 lags behind"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-1, "0 s"), (12, "12 s"), (60, "1 min"), (108, "1 min 48 s"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_durations_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# -- who may see it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("permission", ["view_breaker", "operate_breaker"])
def test_who_may_see_or_operate_sees(twelve: Twelve, permission: str) -> None:
    client = browser(person(permission))
    assert [client.get(address).status_code for address in (BOARD, LIVE)] == [200, 200]


def test_staff_without_permission_sees_nothing(twelve: Twelve) -> None:
    client = browser(person("view_operatoract"))
    assert [client.get(address).status_code for address in (BOARD, LIVE)] == [403, 403]


def test_who_is_no_staff_sees_nothing(twelve: Twelve) -> None:
    client = browser(person("view_breaker", staff=False))
    assert client.get(BOARD)["Location"].startswith("/admin/login/")
    assert client.get(LIVE).status_code == 401


def test_a_stranger_is_sent_to_the_login_and_a_script_is_told(twelve: Twelve, client: Client) -> None:
    assert client.get(BOARD)["Location"] == "/admin/login/?next=/admin/breaker/"
    answer = client.get(LIVE)
    assert (answer.status_code, "Location" in answer) == (401, False)


def test_index_and_menu_lead_to_it(twelve: Twelve, viewer: Client) -> None:
    page = viewer.get("/admin/").content.decode()
    assert page.count('href="/admin/breaker/"') >= 2
    assert "circuit breakers" in page.lower()


def test_who_only_operates_finds_it_in_the_index(twelve: Twelve, operator: Client) -> None:
    assert 'href="/admin/breaker/"' in operator.get("/admin/").content.decode()


def test_only_operators_get_buttons(twelve: Twelve, viewer: Client, operator: Client) -> None:
    for address in (BOARD, LIVE):
        assert b"/admin/breaker/act" not in viewer.get(address).content
        assert b"/admin/breaker/act" in operator.get(address).content
        assert b"/admin/breaker/act" not in viewer.get(address).content


def test_all_that_the_pages_load_is_small(twelve: Twelve, operator: Client) -> None:
    loaded: set[str] = set()
    for address in (BOARD, "/admin/breaker/MIFOS-Maker-get/"):
        loaded |= set(re.findall(r'"/static/([^"]+)"', operator.get(address).content.decode()))
    assert {"breaker/breaker.js", "breaker/detail.js", "breaker/breaker.css", "breaker/trouble.svg"} <= loaded
    packed = [len(gzip.compress(Path(finders.find(name)).read_bytes())) for name in loaded]
    assert sum(packed) < 100_000


def test_nothing_stands_inline(twelve: Twelve, operator: Client) -> None:
    fail(twelve["maker", "get"], 5)
    for address in (BOARD, LIVE, "/admin/breaker/act?action=open&name=MIFOS-Maker-get"):
        page = operator.get(address).content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:", page), address


# -- the live answer ---------------------------------------------------------------------------------------------------


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One item for each time that all breakers were read."""
    made: list[None] = []
    read = queries.overview

    def counted() -> Overview:
        made.append(None)
        return read()

    monkeypatch.setattr(queries, "overview", counted)
    return made


def test_the_live_answer_is_the_pages_own_markup(twelve: Twelve, viewer: Client) -> None:
    page, answer = viewer.get(BOARD).content.decode(), viewer.get(LIVE).content.decode()
    marked = re.compile(r'(?:id|class)="[^"]*"')
    assert set(marked.findall(answer)) <= set(marked.findall(page))
    assert 'id="b-MIFOS-Maker-get"' in answer


def test_twenty_who_watch_share_one_reading(
    twelve: Twelve, viewer: Client, operator: Client, readings: list[None]
) -> None:
    for _ in range(10):
        viewer.get(LIVE)
        operator.get(LIVE)
    assert len(readings) == 1


def test_a_reading_ends(twelve: Twelve, viewer: Client, readings: list[None], monkeypatch: pytest.MonkeyPatch) -> None:
    viewer.get(LIVE)
    monkeypatch.setattr(pages.watch, "fresh_until", 0.0)
    viewer.get(LIVE)
    assert len(readings) == 2


def test_a_transition_is_not_kept_back(twelve: Twelve, viewer: Client) -> None:
    viewer.get(LIVE)
    pages.watch.news_from = 0.0
    fail(twelve["maker", "post"], 5)
    assert b"1 breaker OPEN" in viewer.get(LIVE).content


def test_a_transition_of_what_another_process_made_is_not_kept_back(house: House, viewer: Client) -> None:
    theirs = house.elsewhere("theirs")
    viewer.get(LIVE)
    pages.watch.news_from = 0.0
    fail(theirs, 5)
    house.beat()
    assert b"1 breaker OPEN" in viewer.get(LIVE).content


def test_transitions_do_not_have_all_read_again(twelve: Twelve, viewer: Client, readings: list[None]) -> None:
    viewer.get(LIVE)
    for action in ("open", "release") * 5:
        act("MIFOS-Maker-post", action)
        viewer.get(LIVE)
    assert len(readings) == 1


def test_news_that_takes_long_to_read_is_read_seldom(
    twelve: Twelve, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, read = Clock(), queries.renewed

    def slow(*what: Any) -> Overview:
        clock.advance(0.1)
        return read(*what)

    monkeypatch.setattr(queries, "renewed", slow)
    monkeypatch.setattr(pages, "time", SimpleNamespace(monotonic=clock))
    viewer.get(LIVE)
    act("MIFOS-Maker-post", "open")
    viewer.get(LIVE)
    act("MIFOS-Maker-put", "open")
    clock.advance(0.3)
    assert b"1 breaker OPEN" in viewer.get(LIVE).content
    clock.advance(0.2)
    assert b"2 breakers OPEN" in viewer.get(LIVE).content


def test_while_a_reading_is_held_up_the_last_answer_serves(
    twelve: Twelve, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "HELD_UP", 0.01)
    with pages.watch.lock:
        assert viewer.get(LIVE).status_code == 503
    before = viewer.get(LIVE)
    with pages.watch.lock:
        assert viewer.get(LIVE).content == before.content


def test_each_filter_has_its_answer(twelve: Twelve, viewer: Client) -> None:
    one, other = viewer.get(LIVE, {"q": "post"}), viewer.get(LIVE, {"q": "put"})
    assert (b"b-MIFOS-Maker-post" in one.content, b"b-MIFOS-Maker-post" in other.content) == (True, False)


def test_each_language_has_its_answer(twelve: Twelve, monkeypatch: pytest.MonkeyPatch) -> None:
    act("MIFOS-Maker-get", "disable")
    spoken = ""  # by a project that has USE_I18N, which this one has not
    monkeypatch.setattr(dashboard, "_", lambda text: f"{spoken}:{text}")
    for module in (pages, breaker_cards):
        monkeypatch.setattr(module, "get_language", lambda: spoken)
    for spoken in ("en", "de"):
        answer = pages.watch.answer(Filter(), operates=False)
        assert answer is not None
        assert f"{spoken}:DISABLED".encode() in answer.body


def test_many_filters_do_not_fill_the_memory(twelve: Twelve, viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "FRESH", 60.0)  # one reading, however busy the machine
    for number in range(pages.VARIANTS + 10):
        assert viewer.get(LIVE, {"q": str(number)}).status_code == 200
    assert len(pages.watch.answers) == pages.VARIANTS


def test_an_answer_that_is_known_is_not_sent_again(twelve: Twelve, viewer: Client) -> None:
    first = viewer.get(LIVE)
    again = viewer.get(LIVE, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    assert int(again["X-Breaker-At"]) == int(first["X-Breaker-At"])
    pages.watch.news_from = 0.0
    fail(twelve["maker", "post"], 5)
    assert viewer.get(LIVE, headers={"If-None-Match": first["ETag"]}).status_code == 200


def test_an_answer_is_packed_for_who_takes_gzip(twelve: Twelve, viewer: Client) -> None:
    plain, packed = viewer.get(LIVE), viewer.get(LIVE, headers={"Accept-Encoding": "gzip, deflate, br"})
    assert (plain.get("Content-Encoding"), packed["Content-Encoding"]) == (None, "gzip")
    assert gzip.decompress(packed.content) == plain.content
    assert all("Accept-Encoding" in answer["Vary"] for answer in (plain, packed))
    assert plain["ETag"] == packed["ETag"]


def test_who_may_act_gets_another_answer_than_who_sees(twelve: Twelve, viewer: Client, operator: Client) -> None:
    tag = operator.get(LIVE)["ETag"]
    assert viewer.get(LIVE, headers={"If-None-Match": tag}).status_code == 200


def test_the_shared_answer_holds_nothing_of_a_person(twelve: Twelve, operator: Client) -> None:
    answer = operator.get(LIVE)
    assert b"csrf" not in answer.content
    assert b"otto" not in answer.content
    assert not answer.cookies
    assert "no-store" in answer["Cache-Control"]


def test_asking_again_asks_the_database_nothing(twelve: Twelve, viewer: Client, django_assert_num_queries: Any) -> None:
    viewer.get(LIVE)
    with django_assert_num_queries(0):
        viewer.get(LIVE)


def test_a_permission_taken_away_counts_soon(twelve: Twelve, monkeypatch: pytest.MonkeyPatch) -> None:
    user = person("view_breaker")
    client = browser(user)
    assert client.get(LIVE).status_code == 200
    user.user_permissions.clear()
    monkeypatch.setattr(pages.time, "monotonic", lambda now=pages.time.monotonic: now() + pages.Door.SECONDS)
    assert client.get(LIVE).status_code == 403


def test_who_has_no_session_opens_it_to_no_stranger(twelve: Twelve, rf: RequestFactory, client: Client) -> None:
    request = rf.get(LIVE)
    request.user = person("view_breaker")  # as a proxy's header names him
    assert pages.live(request).status_code == 200
    assert client.get(LIVE).status_code == 401


def test_who_has_signed_out_is_told_at_once(twelve: Twelve, viewer: Client) -> None:
    assert viewer.get(LIVE).status_code == 200
    viewer.logout()
    assert viewer.get(LIVE).status_code == 401


def test_a_card_is_rendered_again_when_it_shows_something_else(twelve: Twelve, viewer: Client) -> None:
    def fires() -> list[str]:
        pages.watch.fresh_until = 0.0
        text = words(viewer.get(LIVE).content.decode())
        return re.findall(r"Maker GET.*?fires(\d+)", text)

    assert fires() == ["0"]
    succeed(twelve["maker", "get"])
    assert fires() == ["1"]


def test_without_a_change_there_is_nothing_to_send(twelve: Twelve, viewer: Client, house: House) -> None:
    house.advance(2)
    first = viewer.get(LIVE)
    house.advance(3)
    pages.watch.fresh_until = 0.0
    assert viewer.get(LIVE, headers={"If-None-Match": first["ETag"]}).status_code == 304


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_the_page_is_only_read(twelve: Twelve, operator: Client, method: str) -> None:
    assert getattr(operator, method)(BOARD).status_code == 405


def test_the_admin_s_way_to_the_site_knows_no_breaker(viewer: Client) -> None:
    kind = ContentType.objects.get(app_label="breaker", model="breaker")
    assert viewer.get(f"/admin/r/{kind.pk}/1/").status_code == 404


def test_an_old_cookie_shows_nothing_after_the_logout(twelve: Twelve, viewer: Client) -> None:
    assert viewer.get(LIVE).status_code == 200
    old = viewer.cookies["sessionid"].value
    viewer.post("/admin/logout/")
    viewer.cookies["sessionid"] = old
    assert viewer.get(LIVE).status_code == 401


def test_the_live_answer_is_only_read(twelve: Twelve, operator: Client) -> None:
    assert operator.post(LIVE).status_code == 405


def test_names_are_escaped(house: House, admin_user: User) -> None:
    create_circuit_breaker(name="a-b.c:d")
    page = browser(admin_user).get(BOARD).content.decode()
    assert 'action=open&amp;name=a-b.c%3Ad"' in page

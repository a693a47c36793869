"""Reads whose answers are kept: given while MIFOS gives none, to whom they are due, and never after a write."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet
from django.core.cache import caches

from breaker import queries
from mifos_gateway import cached, checker, conf, fallbacks, kept, maker, resources, vault
from mifos_gateway.errors import GatewayError, InvalidCall, MifosTimeout, MifosUnavailable
from mifos_gateway.fallbacks import Cached, FailFast, Placeholder
from mifos_gateway.refusals import NotCached, ServiceUnavailable
from tests.mifos_gateway.conftest import Caller, FakeMifos, mifos_answer
from tests.programs import wait_for

GONE = MifosUnavailable("It hung up.", sent="unknown")
FALLBACK = Cached(600) | Placeholder("none")
BOUND = 600


class Clock:
    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch, settings: Any, clock: Clock) -> Iterator[kept.Answers]:
    """Kept in this process, by a clock that only moves when told."""
    memory = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "kept"}
    settings.CACHES = {"default": {**memory, "OPTIONS": {"MAX_ENTRIES": 10_000}}}
    settings.GATEWAY = {"CACHED_ROUTES": {"offices*": BOUND, "clients*": BOUND}}
    made = kept.Answers(wall=lambda: clock.now, monotonic=lambda: clock.now, threads=False)
    for module in (kept, cached, fallbacks):
        monkeypatch.setattr(module, "answers", made)
    yield made
    caches["default"].clear()


def body(text: str, **headers: str) -> requests.Response:
    return mifos_answer(200, text.encode(), {"Content-Type": "text/plain", **headers})


def ask(path: str = "offices", said: str = "", *, user: Any = maker, **more: Any) -> Any:
    headers = {"Cache-Control": said} if said else {}
    return user.get(path, headers=headers | more.pop("headers", {}), **more)


def told(answer: Any) -> tuple[str, str]:
    return answer.text, answer.provenance


def stats(name: str = "MIFOS-Maker-get") -> dict[str, Any]:
    found: dict[str, Any] = queries.status([name]).entries[0].as_dict()["stats"]
    return found


# -- an outage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [GONE, MifosTimeout("Too slow.", sent="unknown"), mifos_answer(503)])
def test_what_was_answered_before_is_given_while_mifos_fails(mifos: FakeMifos, clock: Clock, failing: Any) -> None:
    mifos.behaviour = body("first", Date="Mon, 23 Nov 2026 14:23:09 GMT")
    assert told(ask()) == ("first", "mifos")
    mifos.behaviour = failing
    clock.advance(97.9)
    answer = ask()
    assert told(answer) == ("first", "cache")
    assert answer.status_code == 200
    given = {name: answer.headers[name] for name in ("X-Fallback", "Age", "Date", "Cache-Status", "Content-Type")}
    assert given == {
        "X-Fallback": "cache",
        "Age": "97",
        "Date": "Mon, 23 Nov 2026 14:23:09 GMT",
        "Cache-Status": "mifos-gateway; fwd=stale",
        "Content-Type": "text/plain",
    }
    assert "Warning" not in answer.headers
    counted = stats()
    assert (counted["failures"] + counted["timeouts"], counted["fallbacks"]) == (1, 1)


def test_a_rejected_call_gets_it_too(mifos: FakeMifos, clock: Clock) -> None:
    mifos.behaviour = body("first")
    ask()
    mifos.behaviour = GONE
    for _ in range(4):
        ask()
    asked = len(mifos.calls)
    assert told(ask()) == ("first", "cache")
    assert len(mifos.calls) == asked
    assert stats()["rejects"] == 1


def test_nothing_is_older_than_its_route_allows(mifos: FakeMifos, clock: Clock) -> None:
    ask()
    mifos.behaviour = GONE
    clock.advance(BOUND)
    assert ask().provenance == "cache"
    clock.advance(1)
    with pytest.raises(MifosUnavailable) as raised:
        ask()
    assert raised.value is GONE


def test_an_age_is_that_of_the_answer_and_not_of_the_question(mifos: FakeMifos, clock: Clock) -> None:
    ask()

    def hang() -> requests.Response:
        clock.advance(30)
        raise GONE

    mifos.behaviour = hang
    clock.advance(4)
    with pytest.raises(MifosUnavailable):
        ask(said="max-stale=33")
    assert ask(said="max-stale=64").headers["Age"] == "64"
    clock.advance(BOUND - 64 - 29)
    with pytest.raises(MifosUnavailable):
        ask()


def test_an_answer_is_as_old_as_its_question(mifos: FakeMifos, clock: Clock) -> None:
    def slow() -> requests.Response:
        clock.advance(20)
        return mifos_answer()

    mifos.behaviour = slow
    ask()
    assert ask(said="max-age=60").headers["Age"] == "20"


def test_an_age_that_mifos_tells_counts(mifos: FakeMifos, clock: Clock) -> None:
    mifos.behaviour = body("of a proxy", Age="100")
    ask()
    mifos.behaviour = GONE
    clock.advance(1)
    assert ask().headers["Age"] == "101"


def test_it_may_be_for_rejected_calls_alone(mifos: FakeMifos, settings: Any) -> None:
    settings.GATEWAY = {"CACHED_ROUTES": {"offices": Cached(BOUND, failures=False)}}
    ask()
    mifos.behaviour = GONE
    for _ in range(4):
        with pytest.raises(MifosUnavailable):
            ask()
    assert ask().provenance == "cache"


@pytest.mark.parametrize(
    "unfit",
    [
        mifos_answer(404, b"gone"),
        mifos_answer(403, b"rights"),
        mifos_answer(202, b"second"),
        body("second", Vary="*"),
        body("second", Vary="Accept, Accept-Language"),
        mifos_answer(200, b"".join(Fernet.generate_key() for _ in range(4_000))),
    ],
    ids=["404", "403", "202", "varies", "varies by language", "too large"],
)
def test_only_good_answers_are_kept_and_others_end_what_was(mifos: FakeMifos, unfit: Any) -> None:
    ask()
    mifos.behaviour = unfit
    assert ask().content == unfit.content
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask()


@pytest.mark.parametrize("vary", ["Accept", "accept-encoding, Origin", ""])
def test_what_every_answer_varies_by_is_no_hindrance(mifos: FakeMifos, vary: str) -> None:
    mifos.behaviour = body("first", Vary=vary)
    ask()
    mifos.behaviour = GONE
    assert ask().text == "first"


def test_a_failure_ends_nothing(mifos: FakeMifos) -> None:
    ask()
    mifos.behaviour = mifos_answer(500)
    for _ in range(2):
        assert ask().provenance == "cache"


def test_a_route_that_nobody_named_keeps_nothing(mifos: FakeMifos, settings: Any) -> None:
    settings.GATEWAY = {"CACHED_ROUTES": {"offices*": BOUND, "loans*": 0}}
    for path in ("staff", "loans"):
        mifos.behaviour = mifos_answer()
        ask(path)
        mifos.behaviour = GONE
        with pytest.raises(MifosUnavailable):
            ask(path)
    assert caches["default"]._cache == {}


def test_the_first_pattern_that_fits_holds_and_0_is_off(mifos: FakeMifos, settings: Any) -> None:
    settings.GATEWAY = {"CACHED_ROUTES": {"savingsaccounts*": 0, "*": BOUND}}
    for path in ("savingsaccounts/1", "staff"):
        ask(path)
    mifos.behaviour = GONE
    assert ask("staff").provenance == "cache"
    with pytest.raises(MifosUnavailable):
        ask("savingsaccounts/1")


def test_a_text_keeps_its_letters(mifos: FakeMifos) -> None:
    mifos.behaviour = mifos_answer(200, "Zoë".encode("latin-1"), {"Content-Type": "text/csv; charset=ISO-8859-1"})
    ask()
    mifos.behaviour = GONE
    assert ask().text == "Zoë"


def test_what_has_not_changed_is_kept_once_a_second(
    mifos: FakeMifos, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    memory, write = caches["default"], caches["default"].set
    monkeypatch.setattr(memory, "set", lambda *what, **more: (written.append(clock.now), write(*what, **more)))
    began = clock.now
    for _ in range(12):
        ask()
        clock.advance(0.25)
    assert [round(at - began, 1) for at in written] == [0, 1, 2]
    mifos.behaviour = body("second")
    ask()
    assert len(written) == 4


def test_what_one_caller_asks_for_ends_nothing_for_others(
    mifos: FakeMifos, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_for: list[float] = []
    memory = caches["default"]
    monkeypatch.setattr(memory, "set", lambda *_, timeout, **__: kept_for.append(timeout))
    ask(fallback=Cached(1))
    ask()
    assert kept_for == [BOUND, BOUND]


def test_head_is_not_kept(mifos: FakeMifos) -> None:
    maker.request("HEAD", "offices")
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        maker.request("HEAD", "offices")
    mifos.behaviour = mifos_answer()
    ask()
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        maker.request("HEAD", "offices", fallback=Cached(BOUND))


def test_a_caller_in_python_asks_for_it(mifos: FakeMifos, settings: Any, clock: Clock) -> None:
    settings.GATEWAY = {}
    chain = Cached(max_stale=5) | Placeholder("none")
    mifos.behaviour = body("first")
    assert told(ask("staff", fallback=chain)) == ("first", "mifos")
    mifos.behaviour = GONE
    assert told(ask("staff", fallback=chain)) == ("first", "cache")
    clock.advance(6)
    assert told(ask("staff", fallback=chain)) == ('"none"', "placeholder")


def test_fail_fast_switches_it_off_and_the_answer_is_kept_all_the_same(mifos: FakeMifos) -> None:
    ask(fallback=FailFast())
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask(fallback=FailFast())
    assert ask().provenance == "cache"


def test_what_is_cached_comes_before_what_else_is_configured(mifos: FakeMifos, settings: Any) -> None:
    settings.GATEWAY = {"CACHED_ROUTES": {"offices": BOUND}, "FALLBACKS": {"GET *": Placeholder("none")}}
    mifos.behaviour = GONE
    assert told(ask()) == ('"none"', "placeholder")
    mifos.behaviour = body("first")
    ask()
    mifos.behaviour = GONE
    assert told(ask()) == ("first", "cache")


def test_on_a_write_it_is_refused(mifos: FakeMifos) -> None:
    with pytest.raises(InvalidCall, match="would say that it was done"):
        maker.post("offices", json={}, fallback=Cached(BOUND))


@pytest.mark.parametrize("wrong", [-1, 86_401, True, "600", None])
def test_seconds_that_cannot_be_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="seconds from 0"):
        Cached(wrong)


# -- what the caller says ----------------------------------------------------------------------------------------------


def test_a_fresh_one_is_given_without_a_call_to_who_allows_it(mifos: FakeMifos, clock: Clock) -> None:
    mifos.behaviour = body("first")
    ask()
    mifos.behaviour = body("second")
    clock.advance(30)
    answer = ask(said="max-age=30")
    assert told(answer) == ("first", "cache")
    assert (answer.headers["Age"], "X-Fallback" in answer.headers) == ("30", False)
    assert len(mifos.calls) == 1
    assert stats()["fires"] == 1
    assert told(ask(said="max-age=29")) == ("second", "mifos")
    assert told(ask()) == ("second", "mifos")


@pytest.mark.parametrize("said", ["no-cache", "no-store", "max-age=5", "max-stale=5", "max-age=2, max-stale=2"])
def test_who_wants_no_old_answer_gets_the_error(mifos: FakeMifos, clock: Clock, said: str) -> None:
    ask()
    mifos.behaviour = GONE
    clock.advance(6)
    with pytest.raises(MifosUnavailable):
        ask(said=said)
    assert ask(said="max-stale=6").provenance == "cache"


def test_no_store_keeps_nothing(mifos: FakeMifos) -> None:
    ask(said="no-store")
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask()


def test_only_if_cached_calls_nobody(mifos: FakeMifos, clock: Clock) -> None:
    for path in ("offices", "staff"):
        with pytest.raises(NotCached) as raised:
            ask(path, said="only-if-cached")
        assert (raised.value.status, raised.value.code, raised.value.sent) == (504, "NOT_CACHED", False)
    ask()
    clock.advance(30)
    assert ask(said="only-if-cached").provenance == "cache"
    assert ask(said="only-if-cached, max-age=30").provenance == "cache"
    with pytest.raises(NotCached):
        ask(said="only-if-cached, max-age=29")
    assert len(mifos.calls) == 1


def test_what_is_said_of_the_cache_stays_here(mifos: FakeMifos) -> None:
    ask(said="max-age=30")
    assert "Cache-Control" not in mifos.last["headers"]


# -- whose it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"user": checker},
        {"path": "offices/1"},
        {"path": "v2/offices"},
        {"path": "offices?fields=id"},
        {"path": "offices;x=1"},
        {"path": "offices?x=%E9"},
        {"path": "offices%3Bx"},
        {"headers": {"Accept": "text/csv"}},
        {"headers": {"Accept-Language": "fr"}},
        {"json": {"officeId": 1}},
    ],
)
def test_nobody_gets_what_is_anothers(mifos: FakeMifos, other: dict[str, Any]) -> None:
    ask()
    ask("offices?x=%E8")
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask(**other)


@pytest.mark.parametrize("what", ["TENANT_ID", "BASE_URL", "MAKER_USERNAME"])
def test_nobody_gets_what_is_another_tenants(mifos: FakeMifos, settings: Any, what: str) -> None:
    ask()
    settings.MIFOS = {**settings.MIFOS, what: "other"}
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask()


def test_a_body_is_a_question_that_is_not_kept(mifos: FakeMifos) -> None:
    ask(json={"q": 1})
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask(json={"q": 1})


@pytest.mark.parametrize(
    "base_url", ["http://mifos.invalid/fineract-provider/api/v1/", "HTTP://mifos.invalid:80/fineract-provider"]
)
def test_one_mifos_spelled_otherwise_is_one(mifos: FakeMifos, settings: Any, base_url: str) -> None:
    settings.MIFOS = {**settings.MIFOS, "BASE_URL": "http://mifos.invalid/fineract-provider", "TENANT_ID": "default"}
    ask()
    settings.MIFOS = {**settings.MIFOS, "BASE_URL": base_url, "TENANT_ID": None}
    mifos.behaviour = GONE
    assert ask().provenance == "cache"


def test_what_is_put_in_anothers_place_is_not_given(mifos: FakeMifos) -> None:
    ask()
    ask(user=checker)
    memory = caches["default"]
    slots = [key.split(":", 2)[2] for key in memory._cache if ":slot:" in key]
    assert len(slots) == 2
    stored = [memory.get(slot) for slot in slots]
    for slot, mine, others in zip(slots, stored, reversed(stored), strict=True):
        memory.set(slot, mine[:72] + others[72:])
    mifos.behaviour = GONE
    for user in (maker, checker):
        with pytest.raises(MifosUnavailable):
            ask(user=user)


@pytest.mark.parametrize("same", ["/api/v1/offices?a=1&b=2", "v1/offices?b=2&a=1", "offices?a=%31&b=2"])
def test_one_call_spelled_otherwise_is_one(mifos: FakeMifos, same: str) -> None:
    ask("offices?a=1&b=2")
    mifos.behaviour = GONE
    assert ask(same).provenance == "cache"


def test_what_lies_in_the_cache_tells_nothing(mifos: FakeMifos) -> None:
    mifos.behaviour = body("Asha Rao")
    ask("clients/1?name=Asha")
    assert b"Asha" not in b"".join(repr(item).encode() + item for item in caches["default"]._cache.values())


def test_keys_rotate(mifos: FakeMifos, settings: Any) -> None:
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.GATEWAY = {**settings.GATEWAY, "PAYLOAD_KEYS": [old]}
    ask()
    mifos.behaviour = GONE
    settings.GATEWAY = {**settings.GATEWAY, "PAYLOAD_KEYS": [new, old]}
    assert ask().provenance == "cache"
    settings.GATEWAY = {**settings.GATEWAY, "PAYLOAD_KEYS": [new]}
    with pytest.raises(MifosUnavailable):
        ask()


def test_a_former_secret_key_still_reads(settings: Any) -> None:
    sealed = vault.seal(b"x")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
    assert vault.unseal(sealed) == b"x"
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(vault.Unreadable):
        vault.unseal(sealed)


# -- writes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "write", "drops"),
    [
        ("clients/1", "clients/1", True),
        ("clients/external-id/x", "clients/1", True),
        ("clients/1/accounts", "loans/5/transactions", True),
        ("clients/1", "offices/1", True),
        ("clients/1", "makercheckers/7", True),
        ("clients/1", "something-new", True),
        ("offices", "something-new", True),
        ("loanproducts/1", "glaccounts/5", True),
        ("something-new", "offices", True),
        ("offices", "offices/1", True),
        ("offices", "staff", True),
        ("offices", "batches", True),
        ("offices", "loans/5", False),
        ("clients/1", "v2/clients/search", False),
        ("clients/1", "search/advance", False),
        ("clients/1", "loans?command=calculateLoanSchedule", False),
        ("clients/1", "loans?command=calculateLoanSchedules", True),
        ("offices", "offices?command=calculateLoanSchedule", True),
        ("clients/1", "loans/1?command=approve&command=calculateLoanSchedule", True),
        ("clients/1", "loans?command=calculateLoanSchedule&%63ommand=x", True),
        ("clients/1", "clients/1/query", True),
        ("clients/1", "groups/1?command=generateCollectionSheet", False),
    ],
)
def test_a_write_drops_what_it_may_have_changed(
    mifos: FakeMifos, settings: Any, read: str, write: str, drops: bool
) -> None:
    settings.GATEWAY = {"CACHED_ROUTES": {"*": BOUND}}
    ask(read)
    checker.post(write, json={})
    mifos.behaviour = GONE
    if drops:
        with pytest.raises(MifosUnavailable):
            ask(read)
    else:
        assert ask(read).provenance == "cache"


@pytest.mark.parametrize("outcome", [GONE, MifosTimeout("Too slow.", sent="unknown"), mifos_answer(500)])
def test_a_write_that_may_have_been_done_drops_too(mifos: FakeMifos, outcome: Any) -> None:
    ask("clients/1")
    mifos.behaviour = outcome
    if isinstance(outcome, Exception):
        with pytest.raises(GatewayError):
            maker.put("clients/1", json={})
    else:
        maker.put("clients/1", json={})
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask("clients/1")


def test_a_rejected_write_drops_nothing(mifos: FakeMifos) -> None:
    mifos.behaviour = MifosUnavailable("Refused.", sent=False)
    for _ in range(5):
        with pytest.raises(MifosUnavailable):
            maker.put("offices/9", json={})
    mifos.behaviour = mifos_answer()
    ask("clients/1")
    with pytest.raises(ServiceUnavailable):
        maker.put("offices/9", json={})
    mifos.behaviour = GONE
    assert ask("clients/1").provenance == "cache"


def test_a_write_that_was_not_sent_after_all_drops_once(mifos: FakeMifos, answers: kept.Answers) -> None:
    def reads_and_is_refused() -> requests.Response:
        mifos.behaviour = mifos_answer()
        ask("clients/1")
        raise MifosUnavailable("Refused.", sent=False)

    mifos.behaviour = reads_and_is_refused
    with pytest.raises(MifosUnavailable):
        maker.put("clients/9", json={})
    mifos.behaviour = GONE
    assert ask("clients/1").provenance == "cache"
    assert answers.pay() is True


def test_a_write_whose_end_nobody_knows_drops_once_more(mifos: FakeMifos, clock: Clock, answers: kept.Answers) -> None:
    mifos.behaviour = MifosTimeout("Too slow.", sent="unknown")
    with pytest.raises(MifosTimeout):
        maker.put("clients/1", json={})
    mifos.behaviour = body("of before, for MIFOS is still at it")
    ask("clients/1")
    assert ask("clients/1", said="max-age=60").provenance == "cache"
    assert answers.pay() is False
    clock.advance(kept.AGAIN_AFTER)
    assert answers.pay() is True
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask("clients/1")


def test_another_write_does_not_pay_what_is_owed_for_later(
    mifos: FakeMifos, clock: Clock, answers: kept.Answers
) -> None:
    mifos.behaviour = MifosTimeout("Too slow.", sent="unknown")
    with pytest.raises(MifosTimeout):
        maker.put("clients/1", json={})
    mifos.behaviour = mifos_answer()
    clock.advance(5)
    maker.put("clients/1", json={})
    ask("clients/1")
    clock.advance(kept.AGAIN_AFTER)
    assert answers.pay() is True
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask("clients/1")


def test_so_it_is_of_one_that_was_written_while_the_cache_was_away(
    clock: Clock, answers: kept.Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[[], Any] = kept._cache
    monkeypatch.setattr(kept, "_cache", Away)
    answers.drop("clients/1", again=True)
    monkeypatch.setattr(kept, "_cache", real)
    answers.probe()
    assert answers.pay() is False
    clock.advance(kept.AGAIN_AFTER + 1)
    assert answers.pay() is True


@pytest.mark.parametrize("status", [408, 502, 503, 504])
def test_a_proxys_answer_to_a_write_is_no_end(mifos: FakeMifos, answers: kept.Answers, status: int) -> None:
    mifos.behaviour = mifos_answer(status)
    maker.put("clients/1", json={})
    answers.drop("clients/1")
    assert answers.pay() is False


def test_a_word_that_a_write_deletes_just_then_is_made_again(
    mifos: FakeMifos, answers: kept.Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, read, missed = caches["default"], caches["default"].get, []

    def get(key: str, *more: Any, **named: Any) -> Any:
        if ":word:" in key and not more and len(missed) < 2:
            missed.append(key)
            memory.delete(key)
        return read(key, *more, **named)

    monkeypatch.setattr(memory, "get", get)
    ask()
    assert (answers.away, len(missed)) == (False, 2)


def test_a_process_that_can_have_no_thread_fails_no_call(mifos: FakeMifos, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    answers = kept.Answers()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(kept, "_cache", Away)
    answers.drop("clients", again=True)
    monkeypatch.undo()
    assert answers._patiently(lambda: "asked", "not asked") == "not asked"
    wait_for(lambda: not answers.away, "the next call has started it")


def test_what_is_read_while_a_write_runs_is_not_kept(mifos: FakeMifos) -> None:
    def answered_late() -> requests.Response:
        mifos.behaviour = body("of before")
        ask("clients/1")  # read before the write was done, as far as anybody knows
        return mifos_answer()

    mifos.behaviour = answered_late
    maker.put("clients/1", json={})
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask("clients/1")


def test_what_was_asked_before_a_write_is_not_kept_after_it(mifos: FakeMifos) -> None:
    def overtaken() -> requests.Response:
        mifos.behaviour = mifos_answer()
        maker.put("clients/1", json={})
        return body("of before")

    mifos.behaviour = overtaken
    assert ask("clients/1").text == "of before"
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask("clients/1")


def test_without_anything_kept_a_write_asks_no_cache(
    mifos: FakeMifos, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.GATEWAY = {}
    monkeypatch.setattr(kept, "_cache", lambda: pytest.fail("the cache was asked"))
    assert maker.post("clients", json={}).status_code == 200


ROOTS = [
    *sorted(resources._REFERENCE | resources._ACCOUNTS),
    "runreports",
    "search",
    "glaccounts",
    "batches",
    "something-new",
]


@pytest.mark.parametrize("root", ROOTS)
def test_a_write_never_leaves_reads_of_its_own_resource(root: str) -> None:
    for path in (root, f"{root}/1", f"{root.upper()}/external-id/x"):
        assert set(resources.changed_by(path)) & set(resources.shown_by(path))


# -- ETags -------------------------------------------------------------------------------------------------------------


def test_mifos_is_asked_whether_it_still_holds(mifos: FakeMifos, clock: Clock) -> None:
    mifos.behaviour = body("first", ETag='"1"')
    ask()
    clock.advance(100)
    mifos.behaviour = mifos_answer(304, b"", {"ETag": '"1"'})
    answer = ask()
    assert mifos.last["headers"]["If-None-Match"] == '"1"'
    assert (answer.status_code, told(answer)) == (200, ("first", "mifos"))
    assert (answer.headers["Age"], "X-Fallback" in answer.headers) == ("0", False)
    mifos.behaviour = GONE
    clock.advance(BOUND)
    assert ask().headers["Age"] == str(BOUND)


def test_a_caller_who_has_it_is_told_so(mifos: FakeMifos, clock: Clock) -> None:
    mifos.behaviour = body("first", ETag='"1"')
    ask()
    mifos.behaviour = GONE
    clock.advance(7)
    answer = ask(headers={"If-None-Match": 'W/"0", W/"1"'})
    assert (answer.status_code, answer.content, answer.headers["ETag"], answer.headers["Age"]) == (304, b"", '"1"', "7")
    assert ask(headers={"If-None-Match": '"2"'}).text == "first"


def test_a_callers_own_question_goes_to_mifos_as_it_is(mifos: FakeMifos, clock: Clock) -> None:
    mifos.behaviour = body("first", ETag='"1"')
    ask()
    clock.advance(100)
    mifos.behaviour = mifos_answer(304, b"", {"ETag": '"1"'})
    answer = ask(headers={"If-None-Match": '"0", "1"'})
    assert mifos.last["headers"]["If-None-Match"] == '"0", "1"'
    assert (answer.status_code, answer.provenance) == (304, "mifos")
    mifos.behaviour = GONE
    assert ask().headers["Age"] == "0"


@pytest.mark.parametrize("asked", [{"If-None-Match": '"2"'}, {"If-Modified-Since": "Mon, 23 Nov 2026 14:23:09 GMT"}])
def test_a_304_of_what_is_not_kept_confirms_nothing(mifos: FakeMifos, clock: Clock, asked: dict[str, str]) -> None:
    mifos.behaviour = body("first", ETag='"1"')
    ask()
    clock.advance(100)
    mifos.behaviour = mifos_answer(304, b"", {"ETag": '"2"'})
    assert ask(headers=asked).status_code == 304
    mifos.behaviour = GONE
    assert ask().headers["Age"] == "100"


def test_a_304_that_names_another_goes_to_nobody_who_has_not_asked(mifos: FakeMifos, clock: Clock) -> None:
    mifos.behaviour = body("first", ETag='"1"')
    ask()
    clock.advance(100)
    mifos.behaviour = mifos_answer(304, b"", {"ETag": '"2"'})
    answer = ask()
    assert (answer.status_code, told(answer), answer.headers["Age"]) == (200, ("first", "cache"), "100")
    mifos.behaviour = body("second", ETag='"2"')
    assert ask().text == "second"
    assert "If-None-Match" not in mifos.last["headers"]


def test_a_304_of_a_proxy_that_weakens_tags_confirms(mifos: FakeMifos, clock: Clock) -> None:
    mifos.behaviour = body("first", ETag='W/"1"')
    ask()
    clock.advance(100)
    mifos.behaviour = mifos_answer(304, b"", {"ETag": '"1"'})
    assert (told(ask()), ask().headers["Age"]) == (("first", "mifos"), "0")


def test_a_304_tells_its_age_too(mifos: FakeMifos, clock: Clock) -> None:
    mifos.behaviour = body("first", ETag='"1"')
    ask()
    clock.advance(100)
    mifos.behaviour = mifos_answer(304, b"", {"ETag": '"1"', "Age": "40"})
    assert ask().headers["Age"] == "40"


# -- the cache itself --------------------------------------------------------------------------------------------------


def test_a_cache_that_is_away_fails_no_call(
    mifos: FakeMifos, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []

    def away() -> Any:
        asked.append(1)
        raise ConnectionError("cache.internal:6379 of Jane Doe")

    monkeypatch.setattr(kept, "_cache", away)
    assert ask().provenance == "mifos"
    assert maker.post("clients", json={}).status_code == 200
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask()
    assert len(asked) == 1  # and then left alone for a second
    assert [record.getMessage() for record in caplog.records if record.name == "gateway"] == [
        "Answers of MIFOS are not kept: the cache is away (ConnectionError)"
    ]


def test_a_cache_that_hides_that_it_is_away_keeps_nothing(mifos: FakeMifos, settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    ask()
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask()


class Away:
    def __getattr__(self, name: str) -> Any:
        raise ConnectionError("away")


def test_what_was_written_while_the_cache_was_away_is_dropped_before_it_is_asked_again(
    mifos: FakeMifos, answers: kept.Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("clients/1")
    real: Callable[[], Any] = kept._cache
    monkeypatch.setattr(kept, "_cache", Away)
    maker.put("clients/1", json={})
    monkeypatch.setattr(kept, "_cache", real)
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask("clients/1")
    answers.probe()
    assert answers.away is False
    with pytest.raises(MifosUnavailable):
        ask("clients/1")


def test_a_probe_that_fails_changes_nothing(answers: kept.Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_cache", Away)
    answers.drop("clients")
    with pytest.raises(ConnectionError):
        answers.probe()
    assert answers.away
    assert answers.pay() is False


def test_what_is_owed_is_paid_at_the_end(mifos: FakeMifos, answers: kept.Answers) -> None:
    ask("clients/1")
    answers._owe((resources.ACCOUNTS,), at=float("inf"))
    answers.finish()
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask("clients/1")


def test_a_thread_pays_when_the_cache_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kept, "PROBE_EVERY", 0.01)
    answers = kept.Answers()
    real: Callable[[], Any] = kept._cache
    monkeypatch.setattr(kept, "_cache", Away)
    answers.drop("clients")
    assert answers.away
    monkeypatch.setattr(kept, "_cache", real)
    wait_for(lambda: not answers.away, "the thread has reached it")
    assert answers.pay() is True
    assert "Answers of MIFOS are kept again" in caplog.text


def test_a_slow_cache_is_left_alone(mifos: FakeMifos, clock: Clock, answers: kept.Answers) -> None:
    assert answers._patiently(lambda: clock.advance(0.6) or "asked", "not asked") == "asked"
    assert answers._patiently(lambda: "asked", "not asked") == "not asked"
    answers.probe()
    assert answers._patiently(lambda: "asked", "not asked") == "asked"


@pytest.mark.parametrize("poison", [b"\xff", {"a": 1}, 5, ["x"], b"x" * 500])
def test_what_others_have_put_there_is_a_miss_and_heals(mifos: FakeMifos, answers: kept.Answers, poison: Any) -> None:
    ask()
    memory = caches["default"]
    for key in list(memory._cache):
        memory.set(key.split(":", 2)[2], poison)
    mifos.behaviour = GONE
    for _ in range(2):
        with pytest.raises(MifosUnavailable):
            ask()
        answers.away = False
    mifos.behaviour = body("second")
    ask()
    mifos.behaviour = GONE
    assert ask().text == "second"


def test_words_that_were_evicted_make_nothing_count_again(mifos: FakeMifos) -> None:
    ask()
    for key in list(caches["default"]._cache):
        if ":word:" in key:
            caches["default"].delete(key.split(":", 2)[2])
    mifos.behaviour = GONE
    with pytest.raises(MifosUnavailable):
        ask()


def test_what_is_large_and_compresses_well_is_kept(mifos: FakeMifos, settings: Any) -> None:
    settings.GATEWAY = {**settings.GATEWAY, "CACHED_ENTRY_BYTES": 4_000}
    mifos.behaviour = body("x" * 300_000)
    ask()
    mifos.behaviour = GONE
    assert ask().text == "x" * 300_000


def test_all_that_is_kept_has_a_bound(mifos: FakeMifos, settings: Any, clock: Clock) -> None:
    """Of two places the one that has been taken for longer gives way."""
    settings.GATEWAY = {**settings.GATEWAY, "CACHED_ENTRY_BYTES": 2_000, "CACHED_BYTES": 2_000 * 64}
    for number in range(1_000):
        clock.advance(0.1)
        ask(f"offices/{number}")
    slots = [key for key in caches["default"]._cache if ":slot:" in key]
    assert 60 <= len(slots) <= 64
    mifos.behaviour = GONE
    assert ask("offices/999").provenance == "cache"


def test_few_answers_do_not_push_each_other_out(mifos: FakeMifos) -> None:
    for number in range(60):
        ask(f"offices/{number}")
    asked, mifos.behaviour = len(mifos.calls), GONE
    given = sum(
        ask(f"offices/{number}", said="max-age=60", fallback=FALLBACK).provenance == "cache" for number in range(60)
    )
    assert given >= 58
    assert len(mifos.calls) - asked == 60 - given


def test_what_is_owed_while_another_pays_is_not_forgotten(
    answers: kept.Answers, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_cache, go_on = threading.Event(), threading.Event()

    class Slow:
        def delete_many(self, given: Any) -> None:
            at_the_cache.set()
            go_on.wait(5)

    monkeypatch.setattr(kept, "_cache", Slow)
    payer = threading.Thread(target=answers.drop, args=("clients",))
    later = threading.Thread(target=answers._owe, args=((resources.ACCOUNTS,),), kwargs={"at": clock.now + 60})
    payer.start()
    at_the_cache.wait(5)
    later.start()
    later.join(0.05)
    go_on.set()
    payer.join(5)
    later.join(5)
    assert answers.pay() is False
    clock.advance(60)
    assert answers.pay() is True


# -- over REST ---------------------------------------------------------------------------------------------------------


def test_over_rest(mifos: FakeMifos, token: str, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    mifos.behaviour = body("first", ETag='"1"')
    assert Caller(token).mifos("offices").content == b"first"
    clock.advance(12)
    fresh = Caller(token).mifos("offices", headers={"Cache-Control": "max-age=60"})
    assert (fresh.content, fresh["Age"], fresh["Cache-Status"]) == (b"first", "12", "mifos-gateway; hit")
    assert "X-Fallback" not in fresh
    assert "outcome=cache" in caplog.text
    assert "outcome=reject" not in caplog.text
    refused = Caller(token).mifos("staff", headers={"Cache-Control": "only-if-cached"})
    assert (refused.status_code, refused.json()["code"], refused.json()["sent"]) == (504, "NOT_CACHED", False)
    mifos.behaviour = GONE
    old = Caller(token).mifos("offices")
    assert (old.status_code, old.content, old["X-Fallback"], old["Age"]) == (200, b"first", "cache", "12")
    assert old["Date"]
    assert Caller(token).mifos("offices", headers={"If-None-Match": '"1"'}).status_code == 304
    for said in ({"Cache-Control": "no-cache"}, {"Pragma": "no-cache"}):
        assert Caller(token).mifos("offices", headers=said).status_code in (502, 503)


def test_a_breaker_that_opens_while_it_is_asked_raises_its_own_error(mifos: FakeMifos) -> None:
    mifos.behaviour = GONE
    for _ in range(5):
        with pytest.raises(MifosUnavailable):
            ask("offices")
    with pytest.raises(ServiceUnavailable):
        ask("offices")
    assert conf.gateway().cached_routes

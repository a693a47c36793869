"""Tokens and consumers, and what a process remembers of them."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import override_settings
from django.utils import timezone

from mifos_gateway import token_memory, tokens
from mifos_gateway.models import Consumer, Token
from mifos_gateway.refusals import TokensUnavailable
from mifos_gateway.routes import RouteError, Rules
from mifos_gateway.token_memory import FRESH, KEPT_WHILE_AWAY, TokenMemory
from mifos_gateway.tokens import Identity

pytestmark = pytest.mark.django_db


def find(plaintext: str) -> Identity | None:
    return tokens.find(tokens.digest(plaintext))


def test_a_new_token_is_its_consumers() -> None:
    identity = find(tokens.issue("shop", maker=True, allow=["GET clients*"]))

    assert identity is not None
    assert (identity.name, identity.scopes) == ("shop", {"maker"})
    assert [str(rule) for rule in identity.allow.rules] == ["GET clients*"]


def test_no_token_is_stored() -> None:
    plaintext = tokens.issue("shop")

    stored = " ".join(str(value) for row in Token.objects.values_list() for value in row)
    assert plaintext[10:] not in stored


def test_gateways_with_different_secrets_accept_each_others_tokens() -> None:
    plaintext = tokens.issue("shop", maker=True)

    with override_settings(SECRET_KEY="another gateway's"):
        assert find(plaintext) is not None


def test_two_tokens_of_one_consumer_live_side_by_side() -> None:
    first, second = tokens.issue("shop", maker=True), tokens.issue("shop")

    assert [identity.name for identity in (find(first), find(second)) if identity] == ["shop", "shop"]


def test_without_flags_the_rights_stay() -> None:
    tokens.issue("shop", maker=True, allow=["GET clients*"])
    tokens.issue("shop")

    consumer = Consumer.objects.get()
    assert (consumer.scopes, consumer.allow) == (["maker"], ["GET clients*"])


def test_flags_replace_the_rights_of_all_its_tokens() -> None:
    first = tokens.issue("shop", maker=True, checker=True)
    tokens.issue("shop", maker=True, checker=False)

    identity = find(first)
    assert identity is not None
    assert identity.scopes == {"maker"}


def test_a_revoked_consumers_tokens_are_dead() -> None:
    plaintext = tokens.issue("shop", maker=True)
    tokens.revoke(Consumer.objects.get())

    assert find(plaintext) is None


def test_a_revoked_consumer_has_no_live_token_whatever_its_tokens_say() -> None:
    plaintext = tokens.issue("shop", maker=True)
    Consumer.objects.update(revoked_at=timezone.now())

    assert find(plaintext) is None


def test_a_consumer_that_comes_back_does_not_bring_its_old_tokens() -> None:
    old = tokens.issue("shop", maker=True)
    tokens.revoke(Consumer.objects.get())
    new = tokens.issue("shop")

    assert (find(old) is None, find(new) is not None) == (True, True)


def test_an_expired_token_is_dead() -> None:
    assert find(tokens.issue("shop", expires_at=timezone.now() - timedelta(seconds=1))) is None


def test_the_last_use_is_noted_coarsely() -> None:
    plaintext = tokens.issue("shop")
    find(plaintext)
    noted = Token.objects.get().last_used_at
    find(plaintext)

    assert noted is not None
    assert Token.objects.get().last_used_at == noted


def test_a_bad_allow_rule_makes_no_consumer() -> None:
    with pytest.raises(RouteError):
        tokens.issue("shop", allow=["clients"])

    assert not Consumer.objects.exists()


@pytest.mark.parametrize("text", ["", "x", "mgw_", "mgw_" + "a" * 49, "Bearer x", "é"])
def test_noise_is_not_well_formed(text: str) -> None:
    assert not tokens.is_well_formed(text)


# -- memory --------------------------------------------------------------------------------------------------------


class Database:
    """Answers as a test says, and counts how often it is asked."""

    def __init__(self, identity: Identity | None) -> None:
        self.identity, self.asked, self.error = identity, 0, False

    def find(self, digest: str) -> Identity | None:
        self.asked += 1
        if self.error:
            raise OperationalError("gone")
        return self.identity


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


TOKEN = tokens._make()
SHOP = Identity(name="shop", scopes=frozenset({"maker"}), allow=Rules([]), expires_at=None)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database() -> Database:
    return Database(SHOP)


@pytest.fixture
def memory(database: Database, clock: Clock) -> TokenMemory:
    return TokenMemory(database.find, monotonic=clock)


def test_a_token_is_asked_for_once_while_fresh(memory: TokenMemory, database: Database, clock: Clock) -> None:
    memory.identify(TOKEN)
    clock.now += FRESH - 0.1
    memory.identify(TOKEN)

    assert database.asked == 1


def test_a_revocation_is_effective_within_ten_seconds(memory: TokenMemory, database: Database, clock: Clock) -> None:
    memory.identify(TOKEN)
    database.identity = None
    clock.now += 10

    assert memory.identify(TOKEN) is None


def test_a_live_token_survives_the_loss_of_the_database(memory: TokenMemory, database: Database, clock: Clock) -> None:
    memory.identify(TOKEN)
    database.error = True
    clock.now += KEPT_WHILE_AWAY - 1

    assert memory.identify(TOKEN) is SHOP


def test_after_fifteen_minutes_nobody_can_say(memory: TokenMemory, database: Database, clock: Clock) -> None:
    memory.identify(TOKEN)
    database.error = True
    clock.now += KEPT_WHILE_AWAY + 1

    with pytest.raises(TokensUnavailable):
        memory.identify(TOKEN)


def test_an_unknown_token_is_not_called_bad_while_the_database_is_away(memory: TokenMemory, database: Database) -> None:
    database.error = True

    with pytest.raises(TokensUnavailable):
        memory.identify(TOKEN)


def test_a_lost_database_is_asked_again_only_after_a_second(
    memory: TokenMemory, database: Database, clock: Clock
) -> None:
    memory.identify(TOKEN)
    database.error = True
    clock.now += 20
    for _ in range(50):
        memory.identify(TOKEN)
    asked_while_away = database.asked - 1
    clock.now += 1.1
    memory.identify(TOKEN)

    assert (asked_while_away, database.asked) == (1, 3)


def test_a_database_that_came_back_is_believed(memory: TokenMemory, database: Database, clock: Clock) -> None:
    memory.identify(TOKEN)
    database.error = True
    clock.now += 20
    memory.identify(TOKEN)
    database.error, database.identity = False, None
    clock.now += 2

    assert memory.identify(TOKEN) is None


def test_noise_asks_no_database(memory: TokenMemory, database: Database) -> None:
    memory.identify("not a token")

    assert database.asked == 0


def test_an_unknown_token_is_remembered_as_unknown(memory: TokenMemory, database: Database) -> None:
    database.identity = None
    for _ in range(20):
        memory.identify(TOKEN)

    assert database.asked == 1


def test_noise_that_looks_like_tokens_takes_bounded_room(
    memory: TokenMemory, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_memory, "MOST_UNKNOWN", 5)
    database.identity = None
    for _ in range(20):
        memory.identify(tokens._make())

    assert len(memory._unknown) == 5


def test_a_remembered_token_still_expires(memory: TokenMemory, database: Database) -> None:
    database.identity = Identity(
        name="shop", scopes=frozenset(), allow=Rules([]), expires_at=timezone.now() - timedelta(seconds=1)
    )

    assert memory.identify(TOKEN) is None


def test_who_finds_another_thread_hanging_in_the_database_uses_what_is_remembered(
    memory: TokenMemory, database: Database, clock: Clock
) -> None:
    memory.identify(TOKEN)
    clock.now += 20
    memory._asking.acquire()
    memory._asking_since = clock.now - 1

    assert memory.identify(TOKEN) is SHOP
    assert database.asked == 1


class Door:
    """A lock that somebody else holds."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def acquire(self, *, timeout: float) -> bool:
        self.waits.append(timeout)
        return False


@pytest.mark.parametrize(("heard", "waits"), [("nothing", 1.5), ("an answer", 0.0), ("an error", 0.0)])
def test_who_knows_no_token_yet_waits_longer_for_who_asks(
    memory: TokenMemory, database: Database, clock: Clock, heard: str, waits: float
) -> None:
    if heard == "an answer":
        memory.identify(TOKEN)
    elif heard == "an error":  # or every look at a database that hangs would hold the other threads for so long
        database.error = True
        with pytest.raises(TokensUnavailable):
            memory.identify(TOKEN)
        clock.now += 60
    door: Any = Door()
    memory._asking, memory._asking_since = door, clock.now - 0.5

    with pytest.raises(TokensUnavailable):
        memory.identify(tokens._make())
    assert door.waits == [pytest.approx(waits)]


# -- commands ------------------------------------------------------------------------------------------------------


def run(command: str, *arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(command, *arguments, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


def test_create_consumer_prints_the_token_alone_on_its_last_line() -> None:
    out, _ = run("create_consumer", "shop", "--maker", "--allow", "GET clients*", "--expires", "30")

    identity = find(out.rstrip("\n").split("\n")[-1])
    assert identity is not None
    assert identity.expires_at is not None
    assert timedelta(days=29) < identity.expires_at - timezone.now() < timedelta(days=31)


def test_who_operates_breakers_sees_them_too() -> None:
    out, err = run("create_consumer", "desk", "--operate")
    operator = tokens.find(tokens.digest(out.strip()))
    assert operator is not None
    assert (operator.may("operate"), operator.may("view"), operator.may("maker")) == (True, True, False)
    assert operator.has_perm("breaker.operate_breaker")
    assert not operator.has_perm("auth.change_user")
    assert err == ""


def test_who_sees_breakers_does_not_operate_them() -> None:
    out, _ = run("create_consumer", "wall", "--view")
    viewer = tokens.find(tokens.digest(out.strip()))
    assert viewer is not None
    assert (viewer.has_perm("breaker.view_breaker"), viewer.has_perm("breaker.operate_breaker")) == (True, False)


def test_a_consumer_without_any_scope_is_told_so() -> None:
    _, err = run("create_consumer", "nobody")
    assert err == "nobody may do nothing: add --maker, --checker, --view or --operate.\n"


def test_create_consumer_tells_changed_rights_on_standard_error() -> None:
    run("create_consumer", "shop", "--maker")
    _, err = run("create_consumer", "shop", "--checker")

    assert err == "shop had maker on all routes and now has checker on all routes, with all of its tokens.\n"


@pytest.mark.parametrize(
    "arguments",
    [("no spaces",), ("-",), ("x" * 65,), ("shop", "--allow", "clients"), ("shop", "--expires", "0")],
)
def test_create_consumer_refuses_what_it_cannot_use(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run("create_consumer", *arguments)


def test_list_consumers_shows_rights_and_no_token() -> None:
    out, _ = run("create_consumer", "shop", "--maker", "--checker", "--allow", "GET clients*")
    table, _ = run("list_consumers")

    row = "shop live checker, maker GET clients* 1 live - -"
    assert table.splitlines()[1].split() == row.split()
    assert out.strip()[10:] not in table


def test_list_consumers_shows_how_each_token_begins_and_how_it_stands() -> None:
    now = timezone.now()
    live, expired, revoked = (tokens.issue("shop", expires_at=at) for at in (None, now, None))
    find(live)
    tokens.revoke_token(Token.objects.get(digest=tokens.digest(revoked)))
    table, _ = run("list_consumers")

    today = f"{now:%Y-%m-%d}"
    shown = {row.split()[0]: row for row in table.partition("\n\n")[2].splitlines()}
    states = [shown[f"{plaintext[:10]}…"].split()[1:4] for plaintext in (live, expired, revoked)]
    assert states == [["shop", "live", today], ["shop", "expired", today], ["shop", "revoked", today]]
    assert [shown[f"{plaintext[:10]}…"].count(today) for plaintext in (live, expired, revoked)] == [2, 2, 2]


def two_tokens() -> tuple[str, str]:
    return tokens.issue("shop", maker=True), tokens.issue("shop")


@pytest.mark.parametrize("length", [10, 53, None], ids=["as listed", "whole", "with dots"])
def test_one_leaked_token_is_revoked_alone(length: int | None) -> None:
    leaked, other = two_tokens()
    out, _ = run("revoke_consumer", "shop", "--token", leaked[:length] if length else f"{leaked[:10]}…")

    assert out == f"{leaked[:10]}… of shop is revoked, everywhere within 10 s; 1 not revoked.\n"
    assert (find(leaked) is None, find(other) is not None) == (True, True)


@pytest.mark.parametrize(
    ("meant", "why"),
    [("mgw_nobody", "fits no token"), *((short, "fewer than 4") for short in ("mgw_", "mgw_abc", "mgw_…", "", " "))],
)
def test_an_unknown_or_ambiguous_beginning_revokes_nothing(meant: str, why: str) -> None:
    first, second = two_tokens()

    with pytest.raises(CommandError, match=why) as raised:
        run("revoke_consumer", "shop", "--token", meant)
    assert all(f"{plaintext[:10]}…" in str(raised.value) for plaintext in (first, second))
    assert None not in (find(first), find(second))


def test_what_every_token_begins_with_does_not_mean_a_consumers_only_one() -> None:
    only = tokens.issue("shop", maker=True)

    with pytest.raises(CommandError, match="fewer than 4 characters beyond `mgw_`"):
        run("revoke_consumer", "shop", "--token", "mgw_")
    run("revoke_consumer", "shop", "--token", only[:8])
    assert find(only) is None


def test_another_consumers_token_is_not_revoked() -> None:
    tokens.issue("shop")
    others = tokens.issue("warehouse")

    with pytest.raises(CommandError, match="fits no token of shop") as raised:
        run("revoke_consumer", "shop", "--token", others)
    assert others not in str(raised.value)
    assert find(others) is not None


def test_revoke_consumer_ends_all_tokens() -> None:
    plaintext = tokens.issue("shop")
    out, _ = run("revoke_consumer", "shop")

    assert out == "shop is revoked with 1 token, everywhere within 10 s.\n"
    assert find(plaintext) is None


def test_revoke_consumer_names_the_closest() -> None:
    tokens.issue("shop")
    tokens.issue("warehouse")

    with pytest.raises(CommandError, match="closest is 'shop'"):
        run("revoke_consumer", "shopp")

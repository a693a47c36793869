"""Tokens: made, told once, kept as digests, and looked up.

A token is `mgw_<43 random characters><6 check characters>`. Its digest is plain SHA-256: 256 random bits leave nothing
to guess, so neither a slow hash nor a secret key would add anything, and a key would keep gateways that share a
database but not their secret from accepting each other's tokens. The check characters turn away noise without a query.
"""

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import DatabaseError, transaction
from django.db.models import Max, Q
from django.utils import timezone

from mifos_gateway.models import SCOPES, Consumer, Token
from mifos_gateway.routes import Rules

log = logging.getLogger("gateway")

_FORM = re.compile(r"mgw_([A-Za-z0-9_-]{43})([0-9a-f]{6})")
PREFIX_LENGTH = 10
_SHORTEST_MEANT = 8  # every token begins with the first four
# Coarse, so that the hot path of a busy consumer does not write.
LAST_USED_RESOLUTION = timedelta(hours=1)


PERMISSIONS = {"breaker.view_breaker": "view", "breaker.operate_breaker": "operate"}
"""Django's permissions on breakers, and the scopes that stand for them."""


class TokenLookupError(LookupError):
    """No token of this consumer, or more than one, is meant; the message says which there are."""


class ChangedMeanwhile(Exception):
    """The consumer is no longer as whoever asks for one more token has seen it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The consumer behind a live token, as the views need it; stands in for Django's user in DRF."""

    name: str
    scopes: frozenset[str]
    allow: Rules
    expires_at: datetime | None

    is_authenticated = True
    is_anonymous = False
    is_active = True

    def may(self, scope: str) -> bool:
        return scope in self.scopes or (scope == "view" and "operate" in self.scopes)

    def has_perm(self, permission: str) -> bool:
        """Django's question: a scope stands for the permission on breakers of the same verb."""
        return permission in PERMISSIONS and self.may(PERMISSIONS[permission])

    def __str__(self) -> str:
        return self.name


def issue(
    name: str,
    *,
    maker: bool | None = None,
    checker: bool | None = None,
    view: bool | None = None,
    operate: bool | None = None,
    allow: Iterable[str] | None = None,
    expires_at: datetime | None = None,
) -> str:
    """One more token for the consumer of this name, who is made if new, and comes back if revoked.

    `None` keeps an existing consumer's right as it is (and means no right to a new one).
    Raises ValidationError for a bad name and RouteError for a bad `allow` rule.
    """
    plaintext = _make()
    with transaction.atomic():
        consumer = Consumer.objects.select_for_update().filter(name=name).first() or Consumer(name=name)
        consumer.revoked_at = None
        consumer.scopes = _changed_scopes(consumer.scopes, maker=maker, checker=checker, view=view, operate=operate)
        if allow is not None:
            consumer.allow = [str(rule) for rule in Rules(allow).rules]
        consumer.full_clean(validate_unique=False)
        consumer.save()
        Token.objects.create(
            consumer=consumer, prefix=plaintext[:PREFIX_LENGTH], digest=digest(plaintext), expires_at=expires_at
        )
    return plaintext


def seen(consumer: Consumer) -> str:
    """What whoever asks for one more token looks at, to be compared when the request arrives."""
    newest = consumer.tokens.aggregate(newest=Max("pk"))["newest"] or 0
    return f"{newest} revoked {consumer.revoked_at.isoformat()}" if consumer.revoked_at else f"{newest}"


def rotate(
    consumer: Consumer, *, saw: str, expires_at: datetime | None = None, older_end_at: datetime | None = None
) -> str:
    """One more token for it, who comes back if revoked; its older ones end then at the latest, or stay as they are.

    `saw` is what the one who asks has `seen`: a repeated request makes no second token, and one from before a
    revocation does not undo it, but ChangedMeanwhile. So does one whose `consumer` has other scopes by now than those
    that the caller has judged.
    """
    with transaction.atomic():
        locked = Consumer.objects.select_for_update().get(pk=consumer.pk)
        if seen(locked) != saw or locked.scopes != consumer.scopes:
            raise ChangedMeanwhile
        if older_end_at is not None:
            live = locked.tokens.filter(revoked_at=None)
            live.filter(Q(expires_at=None) | Q(expires_at__gt=older_end_at)).update(expires_at=older_end_at)
        return issue(locked.name, expires_at=expires_at)


def change_rights(consumer: Consumer, *, scopes: Iterable[str], allow: Iterable[str]) -> None:
    """Replace what all its tokens may do. Effective in every process within 10 s."""
    consumer.scopes, consumer.allow = sorted(scopes), [str(rule) for rule in Rules(allow).rules]
    consumer.full_clean(validate_unique=False)
    consumer.save(update_fields=("scopes", "allow"))  # and nothing else: another may have revoked it meanwhile


def rights(consumer: Consumer) -> str:
    """What it may do, in words."""
    return f"{' and '.join(consumer.scopes) or 'nothing'} on {', '.join(consumer.allow) or 'all routes'}"


def revoke(consumer: Consumer, *, now: datetime | None = None) -> int:
    """End all live tokens of this consumer; how many there were. Effective in every process within 10 s."""
    now = now or timezone.now()
    with transaction.atomic():
        Consumer.objects.filter(pk=consumer.pk, revoked_at=None).update(revoked_at=now)
        return consumer.tokens.filter(revoked_at=None).update(revoked_at=now)


def choose(consumer: Consumer, meant: str) -> Token:
    """The unrevoked token of this consumer that begins like this; also by the whole token. Raises TokenLookupError."""
    own = consumer.tokens.filter(revoked_at=None)
    beginning = meant.strip().removesuffix("…")
    is_too_short = len(beginning) < _SHORTEST_MEANT
    if is_well_formed(beginning):
        found = list(own.filter(digest=digest(beginning)))
    else:
        found = [token for token in own if not is_too_short and token.prefix.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    there = ", ".join(str(token) for token in found or own) or "none that is not revoked"
    said = "fits several tokens" if found else "fits no token"
    if is_too_short:
        said = "has fewer than 4 characters beyond `mgw_`, too few to mean a token"
    # Not what was given, which may be a whole token.
    raise TokenLookupError(f"this {said} of {consumer}; there are: {there}")


def revoke_token(token: Token, *, now: datetime | None = None) -> bool:
    """End this one; False when it had been already. Effective in every process within 10 s."""
    return bool(Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now or timezone.now()))


def find(token_digest: str, *, now: datetime | None = None) -> Identity | None:
    """Whose live token has this digest, from the database; notes that it was used."""
    now = now or timezone.now()
    token = Token.objects.select_related("consumer").filter(digest=token_digest, revoked_at=None).first()
    if token is None or token.consumer.revoked_at is not None or (token.expires_at and token.expires_at <= now):
        return None
    _note_use(token, now)
    return Identity(
        name=token.consumer.name,
        scopes=frozenset(token.consumer.scopes),
        allow=Rules(token.consumer.allow),
        expires_at=token.expires_at,
    )


def digest(plaintext: str) -> str:
    return hashlib.sha256(plaintext.encode()).hexdigest()


def is_well_formed(text: str) -> bool:
    match = _FORM.fullmatch(text)
    return match is not None and hmac.compare_digest(_check(match[1]), match[2])


def _make() -> str:
    secret = secrets.token_urlsafe(32)
    return f"mgw_{secret}{_check(secret)}"


def _check(secret: str) -> str:
    return hashlib.sha256(b"mgw-check:" + secret.encode()).hexdigest()[:6]


def _changed_scopes(scopes: list[str], **wanted: bool | None) -> list[str]:
    kept = {scope for scope in scopes if wanted.get(scope) is None}
    return sorted(kept | {scope for scope in SCOPES if wanted.get(scope)})


def _note_use(token: Token, now: datetime) -> None:
    if token.last_used_at is None or now - token.last_used_at > LAST_USED_RESOLUTION:
        try:
            Token.objects.filter(pk=token.pk).update(last_used_at=now)
        except DatabaseError as error:  # read-only or locked: the caller must not pay for our bookkeeping
            log.debug("last use of token %s not noted: %s", token, type(error).__name__)

"""Bodies of others' calls at rest: encrypted by the settings' keys, the first of which writes and all of which read.

Fernet: AES-128-CBC with HMAC-SHA-256, and the time of writing. Without keys one is derived from Django's SECRET_KEY;
it is read with in any case, and so are those of its SECRET_KEY_FALLBACKS.
"""

from __future__ import annotations

import base64
import hmac
from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.core.signals import setting_changed

from mifos_gateway import conf


class Unreadable(ValueError):
    """Not ours, changed, or written with a key that is gone."""


def seal(content: bytes) -> bytes:
    return _vault().encrypt(content)


def unseal(sealed: bytes) -> bytes:
    try:
        return _vault().decrypt(sealed)
    except (InvalidToken, TypeError):
        raise Unreadable("this cannot be read with the keys that there are") from None


def digests(content: bytes) -> list[str]:
    """What tells it from any other content and says nothing of it: by the key that writes, and by those that read."""
    return [hmac.digest(key, content, "sha256").hex() for key in _digest_keys()]


@cache
def _vault() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in _keys()])


@cache
def _digest_keys() -> list[bytes]:
    return [_derived(key.decode(), purpose="digests") for key in _keys()]


def _keys() -> list[bytes]:
    """The derived ones stay among those that read: what was written before there were others must not be lost."""
    given = [key.encode() for key in conf.gateway().payload_keys]
    return [*given, *(_derived(one, purpose="payloads") for one in (settings.SECRET_KEY, *_former()))]


def _former() -> list[str]:
    return list(getattr(settings, "SECRET_KEY_FALLBACKS", []))


def _derived(secret: str, *, purpose: str) -> bytes:
    derive = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"mifos-gateway {purpose}".encode())
    return base64.urlsafe_b64encode(derive.derive(secret.encode()))


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("GATEWAY", "SECRET_KEY", "SECRET_KEY_FALLBACKS"):
        _vault.cache_clear()
        _digest_keys.cache_clear()


setting_changed.connect(_forget)

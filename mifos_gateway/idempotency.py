"""What MIFOS gets as `Idempotency-Key`.

MIFOS compares action, entity and key only, over all callers and all resources, so the caller's key alone could answer
one consumer with another's result. The digest of all that makes a call distinct cannot.
"""

import base64
import hashlib

from mifos_gateway.refusals import InvalidIdempotencyKey
from mifos_gateway.targets import Target

LONGEST_KEY = 255
LONGEST_RAW_KEY = 50  # MIFOS's column


def key_for_mifos(key: str, *, consumer: str, client: str, method: str, target: Target, raw: bool = False) -> str:
    """43 characters that no other consumer, client, method, path, query or key gives; the key itself when `raw`."""
    check(key, raw=raw)
    return key if raw else identity(key, consumer=consumer, client=client, method=method, target=target)


def check(key: str, *, raw: bool = False) -> None:
    """Raises InvalidIdempotencyKey."""
    if not key.strip() or not key.isascii() or not key.isprintable():
        raise InvalidIdempotencyKey("An Idempotency-Key is printable ASCII and not blank.")
    if "," in key:  # so servers hand over two headers: which one the caller means to repeat by cannot be known
        raise InvalidIdempotencyKey("There is one Idempotency-Key, and no comma in it.")
    longest = LONGEST_RAW_KEY if raw else LONGEST_KEY
    if len(key) > longest:
        raise InvalidIdempotencyKey(f"An Idempotency-Key is at most {longest} characters.")


def identity(key: str, *, consumer: str, client: str, method: str, target: Target) -> str:
    """What makes two writes one: 43 characters."""
    return _digest(consumer, client, method, target.canonical, key)


def renewed(identity: str, serial: int) -> str:
    """Another key for the same write, where MIFOS has burnt the one before."""
    return _digest(identity, str(serial))


def _digest(*parts: str) -> str:
    # With each part's length before it, no two lists of parts give the same bytes.
    encoded = b"".join(b"%d:%b" % (len(part), part) for part in (part.encode() for part in parts))
    return base64.urlsafe_b64encode(hashlib.sha256(encoded).digest()).rstrip(b"=").decode()

"""In which order writes belong: those to one resource, by default, as one technical user."""

from __future__ import annotations

from mifos_gateway.refusals import InvalidOrderKey
from mifos_gateway.targets import Target

LONGEST = 255


def default_key(target: Target) -> str:
    """`loans/5` of `loans/5/transactions`; "" without an id: such a write makes something new, and has no order.

    An external id is another name for the same thing, but only MIFOS knows of which: its order is one of its own.
    """
    root, *rest = target.path.split("/")
    if not rest:
        return ""
    if rest[0].lower() == "external-id" and len(rest) > 1:
        return f"{root}/external-id/{rest[1]}"[:LONGEST]
    ident = rest[0].lstrip("0") or "0" if rest[0].isdigit() else rest[0]  # for MIFOS 05 is 5
    return f"{root}/{ident}"[:LONGEST]


def checked(key: str) -> str:
    """The caller's own (`X-Order-Key`). Raises InvalidOrderKey."""
    if not key.strip() or not key.isascii() or not key.isprintable():
        raise InvalidOrderKey("An X-Order-Key is printable ASCII and not blank.")
    if len(key) > LONGEST:
        raise InvalidOrderKey(f"An X-Order-Key is at most {LONGEST} characters.")
    return key.strip()


def of(key: str, *, client: str, consumer: str, is_own: bool) -> str:
    """Whose order it is: a resource's, as one of MIFOS's users; or, by a word of its own, this consumer's."""
    if not key:
        return ""
    return f"{consumer}: {key}" if is_own else f"{client} {key}"

"""The id of the request that this thread is serving: taken from the caller or made, sent to MIFOS and back."""

import os
import random
import re
from contextvars import ContextVar

VALID = re.compile(r"[A-Za-z0-9._-]{1,64}")

# Need not be unguessable, and os.urandom at each call was seen to cost as much as the rest of the gateway's checks.
_ids = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_ids.seed)

current: ContextVar[str] = ContextVar("mifos_gateway_request_id", default="")


def accept(offered: str | None) -> str:
    """The caller's id when it is well-formed, else a new one."""
    if offered and VALID.fullmatch(offered):
        return offered
    return new()


def new() -> str:
    return f"{_ids.getrandbits(128):032x}"


def of_this_call() -> str:
    """The current request's id; a new one outside a request, as in a script."""
    return current.get() or new()

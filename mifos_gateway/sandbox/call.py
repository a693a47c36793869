"""One authenticated request, and the tenant whose bank it is about."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .bank import Bank
from .errors import BadJson
from .idempotency import Commands
from .messages import Answer, Request
from .seed import seeded_bank

PASSWORDS: Mapping[str, str] = {"maker": "sandbox-maker", "checker": "sandbox-checker"}
USER_IDS: Mapping[str, int] = {"maker": 1, "checker": 2}
SAMPLE_DOCUMENT = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + bytes(range(256)) * 16


class Tenant:
    """One tenant's data: the bank, the command rows, the documents by (client, number)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bank: Bank = seeded_bank(name)
        self.commands = Commands()
        self.documents: dict[tuple[int, int], tuple[str, bytes]] = {(1, 1): ("contract.pdf", SAMPLE_DOCUMENT)}


@dataclass(frozen=True)
class Spoil:
    """What a fault does to a command from inside.

    `crash`: the effect is done, its row never says so, and the key stays UNDER_PROCESSING.
    `burn`: no effect; this answer is stored as the command's error.
    """

    crash: bool = False
    burn: Answer | None = None


@dataclass(frozen=True)
class Call:
    """`ids` and `name` are what the route's template found in the path."""

    request: Request
    user: str
    tenant: Tenant
    spoil: Spoil = field(default_factory=Spoil)
    ids: tuple[int, ...] = ()
    name: str = ""

    @property
    def bank(self) -> Bank:
        return self.tenant.bank

    def payload(self) -> dict[str, Any]:
        try:
            payload = json.loads(self.request.body or b"{}")
        except ValueError:
            raise BadJson() from None
        if not isinstance(payload, dict):
            raise BadJson()
        return payload

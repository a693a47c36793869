"""What a command can do to a client."""

from typing import Any

from .bank import Bank
from .errors import DomainRule, required
from .terms import Lifecycle, Payload, Record, change, day, with_external_id

LIFECYCLE = Lifecycle(
    "client",
    "clientStatusType",
    {100: "Pending", 300: "Active", 600: "Closed", 700: "Rejected"},
    {
        "activate": (100, 300, "activationDate"),
        "close": (300, 600, "closureDate"),
        "reject": (100, 700, "rejectionDate"),
        "reactivate": (600, 100, "reactivationDate"),
    },
)
DETAILS = ("firstname", "lastname", "fullname", "mobileNo", "emailAddress")


def create(bank: Bank, payload: Payload) -> Record:
    office = bank.given("offices", "officeId", payload, default=1)
    if not _display_name(payload):
        raise required("firstname")
    bank.keep_unique("clients", payload)
    active = bool(payload.get("active"))
    timeline = {"submittedOnDate": day(payload, "submittedOnDate")}
    if active:
        timeline["activationDate"] = day(payload, "activationDate")
    client = {
        "accountNo": None,
        "externalId": payload.get("externalId"),
        "status": LIFECYCLE.status(300 if active else 100),
        "active": active,
        **{name: payload[name] for name in DETAILS if name in payload},
        "displayName": _display_name(payload),
        "officeId": office["id"],
        "officeName": office["name"],
        "timeline": timeline,
    }
    return _result(bank.add("clients", client))


def update(bank: Bank, client_id: int, payload: Payload) -> Record:
    client = bank.find("clients", client_id)
    bank.keep_unique("clients", payload, but=client_id)
    changes = change(client, payload, ("externalId", *DETAILS))
    client["displayName"] = _display_name(client)
    return _result(client) | {"changes": changes}


def delete(bank: Bank, client_id: int, payload: Payload) -> Record:
    client = bank.find("clients", client_id)
    if client["status"]["id"] != 100:
        raise DomainRule("error.msg.clients.cannot.be.deleted", f"Client {client_id} is not pending.", client_id)
    del bank.table("clients")[client_id]
    return _result(client)


def decide(bank: Bank, client_id: int, payload: Payload, *, command: str) -> Record:
    client = bank.find("clients", client_id)
    LIFECYCLE.decide(client, command, payload)
    client["active"] = client["status"]["id"] == 300
    return _result(client)


def accounts(bank: Bank, client_id: int) -> Record:
    bank.find("clients", client_id)
    shown = ("id", "accountNo", "externalId", "status")

    def owned(table: str) -> list[Record]:
        rows = bank.table(table).values()
        return [{name: row[name] for name in shown} for row in rows if row["clientId"] == client_id]

    return {"loanAccounts": owned("loans"), "savingsAccounts": owned("savingsaccounts")}


def active(bank: Bank, payload: Payload) -> Record:
    """The client that a new account is for."""
    client = bank.given("clients", "clientId", payload)
    if not client["active"]:
        message = f"Client {client['id']} is not active."
        raise DomainRule("error.msg.client.not.active.exception", message, client["id"])
    return client


def _display_name(details: Payload) -> str:
    names: list[Any] = [details.get("firstname"), details.get("lastname")]
    return str(details.get("fullname") or " ".join(str(name) for name in names if name))


def _result(client: Record) -> Record:
    identifier = client["id"]
    return with_external_id(client, {"officeId": client["officeId"], "clientId": identifier, "resourceId": identifier})

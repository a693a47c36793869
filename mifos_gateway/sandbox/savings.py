"""What a command can do to a savings account."""

from decimal import Decimal

from . import clients
from .bank import Bank
from .errors import DomainRule, required
from .terms import CURRENCY, Lifecycle, Payload, Record, amount, day, with_external_id

LIFECYCLE = Lifecycle(
    "savingsaccount",
    "savingsAccountStatusType",
    {100: "Submitted and pending approval", 200: "Approved", 300: "Active", 500: "Rejected", 600: "Closed"},
    {
        "approve": (100, 200, "approvedOnDate"),
        "reject": (100, 500, "rejectedOnDate"),
        "activate": (200, 300, "activatedOnDate"),
        "close": (300, 600, "closedOnDate"),
    },
)
TRANSACTIONS = "savings_transactions"
TOTALS = {"deposit": "totalDeposits", "withdrawal": "totalWithdrawals"}


def create(bank: Bank, payload: Payload) -> Record:
    client = clients.active(bank, payload)
    if "productId" not in payload:
        raise required("productId")
    bank.keep_unique("savingsaccounts", payload)
    account = {
        "accountNo": None,
        "externalId": payload.get("externalId"),
        "status": LIFECYCLE.status(100),
        "clientId": client["id"],
        "clientName": client["displayName"],
        "officeId": client["officeId"],
        "savingsProductId": payload["productId"],
        "currency": CURRENCY,
        "timeline": {"submittedOnDate": day(payload, "submittedOnDate")},
        "summary": {"currency": CURRENCY, "accountBalance": Decimal(0), **dict.fromkeys(TOTALS.values(), Decimal(0))},
    }
    return _result(bank.add("savingsaccounts", account))


def decide(bank: Bank, account_id: int, payload: Payload, *, command: str) -> Record:
    account = bank.find("savingsaccounts", account_id)
    LIFECYCLE.decide(account, command, payload)
    return _result(account) | {"changes": {"status": account["status"]}}


def move(bank: Bank, account_id: int, payload: Payload, *, command: str) -> Record:
    """A deposit or a withdrawal. Its external id need not be unique, and nothing finds it: as in Fineract."""
    account = bank.find("savingsaccounts", account_id)
    moved = amount(payload, "transactionAmount")
    if account["status"]["id"] != 300:
        message = f"Savings account {account_id} is not active."
        raise DomainRule("error.msg.savingsaccount.transaction.account.is.not.active", message, account_id)
    summary = account["summary"]
    balance = summary["accountBalance"] + (moved if command == "deposit" else -moved)
    if balance < 0:
        code = "error.msg.savingsaccount.transaction.insufficient.account.balance"
        raise DomainRule(code, "Insufficient account balance.", str(moved))
    transaction = bank.transact(TRANSACTIONS, account_id, command, moved, payload)
    transaction["runningBalance"] = balance
    summary["accountBalance"] = balance
    summary[TOTALS[command]] += moved
    return _result(account) | {"resourceId": transaction["id"]}


def _result(account: Record) -> Record:
    identifier = account["id"]
    owner = {"officeId": account["officeId"], "clientId": account["clientId"]}
    return with_external_id(account, owner | {"savingsId": identifier, "resourceId": identifier})

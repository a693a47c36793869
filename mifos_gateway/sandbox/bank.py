"""The sandbox's small bank: what it holds, and every effect that a command can have on it. Pure state, no HTTP."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from threading import RLock
from typing import Any, TypeAlias

from .errors import BadRequest, DataIntegrity, DomainRule, detail, invalid, missing, required

Record: TypeAlias = dict[str, Any]
Payload: TypeAlias = Mapping[str, Any]

BUSINESS_DATE = date(2024, 10, 24)  # the sandbox's bank lives on one day, so that its answers are the same in every run
SEEDED_CLIENTS = 60  # each with a loan and a savings account of the same id: fifty order keys need no preparation
CURRENCY = {
    "code": "USD",
    "name": "US Dollar",
    "decimalPlaces": 2,
    "displaySymbol": "$",
    "displayLabel": "US Dollar ($)",
}

CLIENT_STATUS = {100: "Pending", 300: "Active", 600: "Closed", 700: "Rejected"}
LOAN_STATUS = {
    100: "Submitted and pending approval",
    200: "Approved",
    300: "Active",
    400: "Withdrawn by applicant",
    500: "Rejected",
    600: "Closed (obligations met)",
    601: "Closed (written off)",
    700: "Overpaid",
}
SAVINGS_STATUS = {100: "Submitted and pending approval", 200: "Approved", 300: "Active", 500: "Rejected", 600: "Closed"}
# A decision on a loan: from which status, to which, and the date it notes.
LOAN_DECISIONS = {
    "approve": (100, 200, "approvedOnDate"),
    "undoapproval": (200, 100, "submittedOnDate"),
    "reject": (100, 500, "rejectedOnDate"),
    "withdrawnByApplicant": (100, 400, "withdrawnOnDate"),
}
CLIENT_DECISIONS = {
    "activate": (100, 300, "activationDate"),
    "close": (300, 600, "closureDate"),
    "reject": (100, 700, "rejectionDate"),
    "reactivate": (600, 100, "reactivationDate"),
}
SAVINGS_DECISIONS = {
    "approve": (100, 200, "approvedOnDate"),
    "reject": (100, 500, "rejectedOnDate"),
    "activate": (200, 300, "activatedOnDate"),
    "close": (300, 600, "closedOnDate"),
}
LOAN_CREDITS = ("repayment", "merchantIssuedRefund", "payoutRefund", "goodwillCredit", "downPayment")


@dataclass
class Books:
    """Everything that a command may change; a rehearsal works on a copy."""

    clients: dict[int, Record] = field(default_factory=dict)
    loans: dict[int, Record] = field(default_factory=dict)
    savingsaccounts: dict[int, Record] = field(default_factory=dict)
    offices: dict[int, Record] = field(default_factory=dict)
    loanproducts: dict[int, Record] = field(default_factory=dict)
    users: dict[int, Record] = field(default_factory=dict)
    loan_transactions: dict[int, Record] = field(default_factory=dict)
    savings_transactions: dict[int, Record] = field(default_factory=dict)


KINDS = {
    "clients": "client",
    "loans": "loan",
    "savingsaccounts": "savingsaccount",
    "offices": "office",
    "loanproducts": "loanproduct",
}


class Bank:
    """One tenant's books; callers hold `lock` around whatever must be seen at once."""

    def __init__(self, tenant: str = "default") -> None:
        self.lock = RLock()
        self.books = Books()
        self._seed(tenant)

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """What is done inside is forgotten: maker-checker runs a command and rolls it back, so its errors show at once."""
        with self.lock:
            kept, self.books = self.books, copy.deepcopy(self.books)
            try:
                yield
            finally:
                self.books = kept

    # Reading

    def table(self, name: str) -> dict[int, Record]:
        table: dict[int, Record] = getattr(self.books, name)
        return table

    def find(self, table: str, identifier: int) -> Record:
        try:
            return self.table(table)[identifier]
        except KeyError:
            raise missing(KINDS.get(table, table), identifier) from None

    def id_of(self, table: str, external_id: str) -> int:
        for record in self.table(table).values():
            if record.get("externalId") == external_id:
                identifier: int = record["id"]
                return identifier
        raise missing(KINDS.get(table, table), external_id)

    def accounts_of(self, client_id: int) -> Record:
        self.find("clients", client_id)
        fields = ("id", "accountNo", "externalId", "status")

        def owned(table: str) -> list[Record]:
            return [
                {key: row[key] for key in fields if key in row}
                for row in self.table(table).values()
                if row["clientId"] == client_id
            ]

        return {"loanAccounts": owned("loans"), "savingsAccounts": owned("savingsaccounts")}

    def transactions_of(self, table: str, account_id: int) -> list[Record]:
        return [row for row in self.table(table).values() if row["accountId"] == account_id]

    # Clients

    def create_client(self, payload: Payload) -> Record:
        office = self._office(payload)
        name = payload.get("fullname") or " ".join(filter(None, (payload.get("firstname"), payload.get("lastname"))))
        if not name:
            raise required("firstname")
        self._unique("clients", payload)
        client = self._add(
            "clients",
            {
                "accountNo": None,
                "externalId": payload.get("externalId"),
                "status": _status("clientStatusType", CLIENT_STATUS, 300 if payload.get("active") else 100),
                "active": bool(payload.get("active")),
                **{
                    key: payload[key]
                    for key in ("firstname", "lastname", "fullname", "mobileNo", "emailAddress")
                    if key in payload
                },
                "displayName": name,
                "officeId": office["id"],
                "officeName": office["name"],
                "timeline": {"submittedOnDate": _date(payload, "submittedOnDate")},
            },
        )
        if client["active"]:
            client["activationDate"] = _date(payload, "activationDate")
        return self._client_result(client)

    def update_client(self, client_id: int, payload: Payload) -> Record:
        client = self.find("clients", client_id)
        self._unique("clients", payload, but=client_id)
        changes = _change(
            client, payload, ("externalId", "firstname", "lastname", "fullname", "mobileNo", "emailAddress")
        )
        if {"firstname", "lastname", "fullname"} & changes.keys():
            client["displayName"] = (
                changes.get("fullname") or f"{client.get('firstname', '')} {client.get('lastname', '')}".strip()
            )
        return self._client_result(client) | {"changes": changes}

    def delete_client(self, client_id: int) -> Record:
        client = self.find("clients", client_id)
        if client["status"]["id"] != 100:
            raise DomainRule(
                "error.msg.clients.cannot.be.deleted", f"Only a pending client can be deleted: {client_id}", client_id
            )
        del self.books.clients[client_id]
        return self._client_result(client)

    def decide_client(self, client_id: int, command: str, payload: Payload) -> Record:
        client = self.find("clients", client_id)
        _decide(client, "clientStatusType", CLIENT_STATUS, CLIENT_DECISIONS[command], command, payload, kind="client")
        client["active"] = client["status"]["id"] == 300
        return self._client_result(client)

    # Loans

    def create_loan(self, payload: Payload) -> Record:
        client = self._active_client(payload)
        product = self._given("loanproducts", "productId", payload)
        principal = _amount(payload, "principal")
        self._unique("loans", payload)
        interest = _interest(principal, payload, product)
        loan = self._add(
            "loans",
            {
                "accountNo": None,
                "externalId": payload.get("externalId"),
                "status": _status("loanStatusType", LOAN_STATUS, 100),
                "clientId": client["id"],
                "clientName": client["displayName"],
                "clientOfficeId": client["officeId"],
                "loanProductId": product["id"],
                "loanProductName": product["name"],
                "currency": CURRENCY,
                "principal": float(principal),
                "numberOfRepayments": int(payload.get("numberOfRepayments", product["numberOfRepayments"])),
                "timeline": {"submittedOnDate": _date(payload, "submittedOnDate")},
                "summary": _loan_summary(Decimal(0), interest),
            },
        )
        return self._loan_result(loan)

    def loan_schedule(self, payload: Payload) -> Record:
        product = self._given("loanproducts", "productId", payload)
        principal = _amount(payload, "principal")
        interest = _interest(principal, payload, product)
        periods = int(payload.get("numberOfRepayments", product["numberOfRepayments"]))
        due = [
            {
                "period": number,
                "principalDue": _even(principal, periods, number),
                "interestDue": _even(interest, periods, number),
            }
            for number in range(1, periods + 1)
        ]
        return {
            "currency": CURRENCY,
            "totalPrincipalExpected": float(principal),
            "totalInterestCharged": float(interest),
            "totalRepaymentExpected": float(principal + interest),
            "periods": due,
        }

    def decide_loan(self, loan_id: int, command: str, payload: Payload) -> Record:
        loan = self.find("loans", loan_id)
        _decide(loan, "loanStatusType", LOAN_STATUS, LOAN_DECISIONS[command], command, payload, kind="loan")
        return self._loan_result(loan) | {"changes": {"status": loan["status"]}}

    def disburse_loan(self, loan_id: int, payload: Payload) -> Record:
        loan = self.find("loans", loan_id)
        amount = (
            _amount(payload, "transactionAmount") if "transactionAmount" in payload else Decimal(str(loan["principal"]))
        )
        self._unique("loan_transactions", payload)
        _decide(
            loan, "loanStatusType", LOAN_STATUS, (200, 300, "actualDisbursementDate"), "disburse", payload, kind="loan"
        )
        loan["summary"] = _loan_summary(amount, Decimal(str(loan["summary"]["interestCharged"])))
        transaction = self._transact("loan_transactions", loan_id, "disbursement", amount, payload)
        return self._loan_result(loan) | {"subResourceId": transaction["id"], "changes": {"status": loan["status"]}}

    def credit_loan(self, loan_id: int, command: str, payload: Payload) -> Record:
        loan = self.find("loans", loan_id)
        amount = _amount(payload, "transactionAmount")
        if loan["status"]["id"] not in (300, 700):
            raise DomainRule(
                "error.msg.loan.transaction.not.allowed.on.non.active", f"Loan {loan_id} is not active.", loan_id
            )
        transaction = self._transact("loan_transactions", loan_id, command, amount, payload)
        self._settle(loan, amount)
        return self._loan_result(loan) | {
            "resourceId": transaction["id"],
            "resourceExternalId": payload.get("externalId"),
        }

    def undo_loan_transaction(self, loan_id: int, transaction_id: int) -> Record:
        loan = self.find("loans", loan_id)
        transaction = self._own_transaction("loan_transactions", loan_id, transaction_id)
        if transaction["type"]["code"].removeprefix("transactionType.") not in LOAN_CREDITS:
            raise DomainRule(
                "error.msg.loan.transaction.cannot.be.undone",
                f"Transaction {transaction_id} cannot be undone.",
                transaction_id,
            )
        transaction["manuallyReversed"] = True
        self._settle(loan, -Decimal(str(transaction["amount"])))
        return self._loan_result(loan) | {"resourceId": transaction_id}

    def _settle(self, loan: Record, paid: Decimal) -> None:
        summary = loan["summary"]
        total = Decimal(str(summary["totalRepayment"])) + paid
        outstanding = Decimal(str(summary["totalExpectedRepayment"])) - total
        summary.update(totalRepayment=float(total), totalOutstanding=float(max(outstanding, Decimal(0))))
        loan["totalOverpaid"] = float(max(-outstanding, Decimal(0)))
        status = 300 if outstanding > 0 else 600 if outstanding == 0 else 700
        loan["status"] = _status("loanStatusType", LOAN_STATUS, status)

    # Savings

    def create_savings(self, payload: Payload) -> Record:
        client = self._active_client(payload)
        if "productId" not in payload:
            raise required("productId")
        self._unique("savingsaccounts", payload)
        account = self._add(
            "savingsaccounts",
            {
                "accountNo": None,
                "externalId": payload.get("externalId"),
                "status": _status("savingsAccountStatusType", SAVINGS_STATUS, 100),
                "clientId": client["id"],
                "clientName": client["displayName"],
                "savingsProductId": payload["productId"],
                "currency": CURRENCY,
                "timeline": {"submittedOnDate": _date(payload, "submittedOnDate")},
                "summary": {"currency": CURRENCY, "totalDeposits": 0.0, "totalWithdrawals": 0.0, "accountBalance": 0.0},
            },
        )
        return self._savings_result(account)

    def decide_savings(self, account_id: int, command: str, payload: Payload) -> Record:
        account = self.find("savingsaccounts", account_id)
        decision = SAVINGS_DECISIONS[command]
        _decide(account, "savingsAccountStatusType", SAVINGS_STATUS, decision, command, payload, kind="savingsaccount")
        return self._savings_result(account) | {"changes": {"status": account["status"]}}

    def move_savings(self, account_id: int, command: str, payload: Payload) -> Record:
        account = self.find("savingsaccounts", account_id)
        amount = _amount(payload, "transactionAmount")
        if account["status"]["id"] != 300:
            raise DomainRule(
                "error.msg.savingsaccount.transaction.account.is.not.active",
                f"Savings account {account_id} is not active.",
                account_id,
            )
        summary = account["summary"]
        balance = Decimal(str(summary["accountBalance"])) + (amount if command == "deposit" else -amount)
        if balance < 0:
            raise DomainRule(
                "error.msg.savingsaccount.transaction.insufficient.account.balance",
                "Insufficient account balance.",
                float(amount),
            )
        total = "totalDeposits" if command == "deposit" else "totalWithdrawals"
        summary[total] = float(Decimal(str(summary[total])) + amount)
        summary["accountBalance"] = float(balance)
        transaction = self._transact("savings_transactions", account_id, command, amount, payload)
        transaction["runningBalance"] = float(balance)
        return self._savings_result(account) | {"resourceId": transaction["id"]}

    # Offices and users

    def create_office(self, payload: Payload) -> Record:
        if not payload.get("name"):
            raise required("name")
        parent = self._given("offices", "parentId", payload) if "parentId" in payload else self.find("offices", 1)
        self._unique("offices", payload)
        if any(row["name"] == payload["name"] for row in self.books.offices.values()):
            raise _duplicate("office", "name", payload["name"])
        office = self._add(
            "offices", {"name": payload["name"], "externalId": payload.get("externalId"), "parentId": parent["id"]}
        )
        office |= {"nameDecorated": f"....{office['name']}", "hierarchy": f"{parent['hierarchy']}{office['id']}."}
        office["openingDate"] = _date(payload, "openingDate")
        return {"officeId": office["id"], "resourceId": office["id"]}

    def update_office(self, office_id: int, payload: Payload) -> Record:
        office = self.find("offices", office_id)
        self._unique("offices", payload, but=office_id)
        return {
            "officeId": office_id,
            "resourceId": office_id,
            "changes": _change(office, payload, ("name", "externalId")),
        }

    def create_user(self, payload: Payload) -> Record:
        if not payload.get("username"):
            raise required("username")
        user = self._add(
            "users", {"username": payload["username"], "officeId": 1, "officeName": self.books.offices[1]["name"]}
        )
        return {"officeId": 1, "resourceId": user["id"]}

    # Parts that the above share

    def _add(self, table: str, record: Record) -> Record:
        rows = self.table(table)
        identifier = max(rows, default=0) + 1
        rows[identifier] = record = {"id": identifier} | record
        if "accountNo" in record:
            record["accountNo"] = f"{identifier:09d}"
        return record

    def _transact(self, table: str, account_id: int, command: str, amount: Decimal, payload: Payload) -> Record:
        transaction = {
            "accountId": account_id,
            "type": {"code": f"transactionType.{command}", "value": command},
            "amount": float(amount),
            "date": _date(payload, "transactionDate"),
            "externalId": payload.get("externalId"),
            "note": payload.get("note"),
            "currency": CURRENCY,
            "manuallyReversed": False,
        }
        if table == "loan_transactions":  # savings transactions have no unique external id in Fineract
            self._unique(table, payload)
        return self._add(table, transaction)

    def _own_transaction(self, table: str, account_id: int, transaction_id: int) -> Record:
        transaction = self.table(table).get(transaction_id)
        if transaction is None or transaction["accountId"] != account_id or transaction["manuallyReversed"]:
            raise missing("transaction", transaction_id)
        return transaction

    def _unique(self, table: str, payload: Payload, *, but: int | None = None) -> None:
        external_id = payload.get("externalId")
        taken = (row for row in self.table(table).values() if row.get("externalId") == external_id and row["id"] != but)
        if external_id and any(taken):
            raise _duplicate(KINDS.get(table, "transaction"), "externalId", external_id)

    def _given(self, table: str, name: str, payload: Payload) -> Record:
        if name not in payload:
            raise required(name)
        try:
            return self.find(table, int(payload[name]))
        except (TypeError, ValueError):
            raise invalid(name, f"The parameter `{name}` is not a number.", payload[name]) from None

    def _office(self, payload: Payload) -> Record:
        return self._given("offices", "officeId", payload) if "officeId" in payload else self.find("offices", 1)

    def _active_client(self, payload: Payload) -> Record:
        client = self._given("clients", "clientId", payload)
        if not client["active"]:
            raise DomainRule(
                "error.msg.client.not.active.exception", f"Client {client['id']} is not active.", client["id"]
            )
        return client

    def _client_result(self, client: Record) -> Record:
        return _with_external(
            client, {"officeId": client["officeId"], "clientId": client["id"], "resourceId": client["id"]}
        )

    def _loan_result(self, loan: Record) -> Record:
        result = {
            "officeId": loan["clientOfficeId"],
            "clientId": loan["clientId"],
            "loanId": loan["id"],
            "resourceId": loan["id"],
        }
        return _with_external(loan, result)

    def _savings_result(self, account: Record) -> Record:
        office = self.books.clients[account["clientId"]]["officeId"]
        return {
            "officeId": office,
            "clientId": account["clientId"],
            "savingsId": account["id"],
            "resourceId": account["id"],
        }

    def _seed(self, tenant: str) -> None:
        head = "Head Office" if tenant == "default" else f"Head Office of {tenant}"
        opened = _as_list(date(2009, 1, 1))
        self.books.offices[1] = {
            "id": 1,
            "name": head,
            "nameDecorated": head,
            "externalId": "office-1",
            "hierarchy": ".",
            "openingDate": opened,
        }
        self.create_office({"name": "Riverside Branch", "externalId": "office-2"})
        for name, rate in (("Group Loan", 12.0), ("Small Business Loan", 18.0)):
            self._add(
                "loanproducts",
                {"name": name, "currency": CURRENCY, "annualInterestRate": rate, "numberOfRepayments": 12},
            )
        for username in ("maker", "checker"):
            self.create_user({"username": username})
        for number in range(1, SEEDED_CLIENTS + 1):
            self._seed_client(number)

    def _seed_client(self, number: int) -> None:
        first, last = FIRST_NAMES[number % len(FIRST_NAMES)], LAST_NAMES[number % len(LAST_NAMES)]
        identity = {"firstname": first, "lastname": last, "externalId": f"client-{number}", "officeId": 1 + number % 2}
        self.create_client(identity | {"active": True})
        owner = {"clientId": number, "productId": 1}
        self.create_loan(owner | {"principal": 10_000, "externalId": f"loan-{number}"})
        self.decide_loan(number, "approve", {})
        self.disburse_loan(number, {})
        self.create_savings(owner | {"externalId": f"savings-{number}"})
        for command in ("approve", "activate"):
            self.decide_savings(number, command, {})
        self.move_savings(number, "deposit", {"transactionAmount": 1_000})


FIRST_NAMES = ("Ada", "Amina", "Chen", "Dario", "Esi", "Farid", "Grace", "Hana", "Ivo", "Juma", "Kofi")
LAST_NAMES = (
    "Abara",
    "Banda",
    "Costa",
    "Diallo",
    "Eze",
    "Fofana",
    "Gupta",
    "Hassan",
    "Ito",
    "Jonker",
    "Kimani",
    "Lopez",
    "Mensah",
)


def _status(family: str, names: Mapping[int, str], identifier: int) -> Record:
    value = names[identifier]
    code = value.lower().replace("(", "").replace(")", "").replace(" ", ".")
    return {"id": identifier, "code": f"{family}.{code}", "value": value}


def _decide(
    record: Record,
    family: str,
    names: Mapping[int, str],
    decision: tuple[int, int, str],
    command: str,
    payload: Payload,
    *,
    kind: str,
) -> None:
    before, after, dated = decision
    if record["status"]["id"] != before:
        message = (
            f"{kind.capitalize()} {record['id']} is not in the state `{names[before]}`, so `{command}` is not possible."
        )
        raise DomainRule(
            f"error.msg.{kind}.{command.lower()}.not.in.{names[before].split()[0].lower()}.state", message, record["id"]
        )
    record["status"] = _status(family, names, after)
    record["timeline"][dated] = _date(payload, dated)


def _change(record: Record, payload: Payload, allowed: tuple[str, ...]) -> Record:
    unknown = [name for name in payload if name not in (*allowed, "locale", "dateFormat")]
    if unknown:
        problem = "The parameter is not supported."
        raise BadRequest(*(detail("error.msg.parameter.unsupported", problem, parameter=name) for name in unknown))
    changes = {name: payload[name] for name in allowed if name in payload and payload[name] != record.get(name)}
    record.update(changes)
    return changes


def _with_external(record: Record, result: Record) -> Record:
    return result | ({"resourceExternalId": record["externalId"]} if record.get("externalId") else {})


def _duplicate(kind: str, parameter: str, value: Any) -> DataIntegrity:
    message = f"{kind.capitalize()} with {parameter} `{value}` already exists"
    return DataIntegrity(f"error.msg.{kind}.duplicate.{parameter}", message, parameter=parameter, value=value)


def _amount(payload: Payload, name: str) -> Decimal:
    if payload.get(name) in (None, ""):
        raise required(name)
    try:
        amount = Decimal(str(payload[name]).replace(",", ""))
    except InvalidOperation:
        raise invalid(name, f"The parameter `{name}` is not a number.", payload[name]) from None
    if not amount.is_finite() or amount <= 0:
        raise invalid(
            name, f"The parameter `{name}` must be greater than 0.", payload[name], rule="not.greater.than.zero"
        )
    return amount


def _interest(principal: Decimal, payload: Payload, product: Record) -> Decimal:
    """A flat rate for the whole term: enough for a balance that moves, not a lender's arithmetic."""
    rate = Decimal(str(payload.get("interestRatePerPeriod", product["annualInterestRate"])))
    return (principal * rate / 100).quantize(Decimal("0.01"))


def _loan_summary(principal: Decimal, interest: Decimal) -> Record:
    expected = principal + interest if principal else Decimal(0)
    return {
        "currency": CURRENCY,
        "principalDisbursed": float(principal),
        "interestCharged": float(interest),
        "totalExpectedRepayment": float(expected),
        "totalRepayment": 0.0,
        "totalOutstanding": float(expected),
    }


def _even(total: Decimal, periods: int, number: int) -> float:
    share = (total / periods).quantize(Decimal("0.01"))
    return float(total - share * (periods - 1) if number == periods else share)


DATE_FORMATS = ("%d %B %Y", "%d %b %Y", "%Y-%m-%d", "%d/%m/%Y")


def _as_list(day: date) -> list[int]:
    return [day.year, day.month, day.day]


def _date(payload: Payload, name: str) -> list[int]:
    """Fineract's `[year, month, day]`; the common formats are read whatever `dateFormat` says."""
    given = payload.get(name)
    if given is None:
        return _as_list(BUSINESS_DATE)
    for pattern in DATE_FORMATS:
        try:
            return _as_list(datetime.strptime(str(given), pattern).date())
        except ValueError:
            continue
    raise invalid(name, f"The parameter `{name}` is invalid based on the dateFormat.", given, rule="invalid.date")

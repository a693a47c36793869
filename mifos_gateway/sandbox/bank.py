"""What one tenant's bank holds, and how a row is found, added and kept unique. Pure state, no HTTP."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from threading import RLock

from .errors import invalid, missing, required
from .terms import CURRENCY, Payload, Record, day, duplicate

KINDS = {
    "clients": "client",
    "loans": "loan",
    "savingsaccounts": "savingsaccount",
    "offices": "office",
    "loanproducts": "loanproduct",
    "users": "user",
    "loan_transactions": "transaction",
    "savings_transactions": "transaction",
}


@dataclass
class Books:
    """Everything that a command may change; a rehearsal works on a copy."""

    tables: dict[str, dict[int, Record]] = field(default_factory=lambda: {name: {} for name in KINDS})
    last_ids: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))


class Bank:
    """One tenant's books; whoever must see several things at once, or write, holds `lock`."""

    def __init__(self) -> None:
        self.lock = RLock()
        self._books = Books()

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """What is done inside is forgotten: maker-checker runs a command and rolls it back, so errors show at once."""
        with self.lock:
            kept, self._books = self._books, copy.deepcopy(self._books)
            try:
                yield
            finally:
                self._books = kept

    def table(self, name: str) -> dict[int, Record]:
        return self._books.tables[name]

    def find(self, table: str, identifier: int) -> Record:
        try:
            return self.table(table)[identifier]
        except KeyError:
            raise missing(KINDS[table], identifier) from None

    def id_of(self, table: str, external_id: str) -> int:
        found = [identifier for identifier, row in self.table(table).items() if row.get("externalId") == external_id]
        if not found:
            raise missing(KINDS[table], external_id)
        return found[0]

    def given(self, table: str, name: str, payload: Payload, default: int | None = None) -> Record:
        """The row that a field of the payload points at."""
        value = payload.get(name, default)
        if value is None:
            raise required(name)
        try:
            return self.find(table, int(value))
        except (TypeError, ValueError):
            raise invalid(name, f"The parameter `{name}` is not a number.", value) from None

    def add(self, table: str, record: Record) -> Record:
        self._books.last_ids[table] += 1  # never used again, also when the row is deleted
        identifier = self._books.last_ids[table]
        record = {"id": identifier, **record}
        if "accountNo" in record:
            record["accountNo"] = f"{identifier:09d}"
        self.table(table)[identifier] = record
        return record

    def keep_unique(self, table: str, payload: Payload, *, but: int | None = None) -> None:
        external_id = payload.get("externalId")
        if not external_id:
            return
        if any(row.get("externalId") == external_id and row["id"] != but for row in self.table(table).values()):
            raise duplicate(KINDS[table], "externalId", external_id)

    def transact(self, table: str, account_id: int, kind: str, moved: Decimal, payload: Payload) -> Record:
        transaction = {
            "accountId": account_id,
            "type": {"code": f"transactionType.{kind}", "value": kind},
            "amount": moved,
            "date": day(payload, "transactionDate"),
            "externalId": payload.get("externalId"),
            "note": payload.get("note"),
            "currency": CURRENCY,
            "manuallyReversed": False,
        }
        return self.add(table, transaction)

    def transactions_of(self, table: str, account_id: int) -> list[Record]:
        return [row for row in self.table(table).values() if row["accountId"] == account_id]

    def transaction_of(self, table: str, account_id: int, transaction_id: int) -> Record:
        transaction = self.table(table).get(transaction_id)
        if transaction is None or transaction["accountId"] != account_id:
            raise missing("transaction", transaction_id)
        return transaction

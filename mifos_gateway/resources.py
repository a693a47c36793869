"""Which reads a write may have changed, by the first segment of their paths.

Two families, for MIFOS's resources show each other: a client's accounts its loans, a group's those of its clients, an
external id is another address of the same thing, and a loan bears its product's name. Reference data shows reference
data alone. So a write to an account may change every read but those of reference data, and any other write all reads.
Coarse, and never too narrow: what is not named here may be changed by every write, and may change every read.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

REFERENCE, ACCOUNTS = "reference", "accounts"

_REFERENCE = frozenset(
    (
        *("accountingrules", "accountnumberformats", "charges", "codes", "currencies", "delinquency"),
        *("entitytoentitymapping", "fieldconfiguration", "financialactivityaccounts", "fixeddepositproducts"),
        *("floatingrates", "funds", "grouplevels", "holidays", "interestratecharts", "likelihood", "loanproducts"),
        *("offices", "paymenttypes", "poverty", "provisioningcategory", "provisioningcriteria", "rates"),
        *("recurringdepositproducts", "reports", "savingsproducts", "staff", "taxes", "templates", "workingdays"),
    )
)
_ACCOUNTS = frozenset(
    (
        *("accounts", "accounttransfers", "centers", "clients", "collectionsheet", "fixeddepositaccounts", "groups"),
        *("journalentries", "loans", "recurringdepositaccounts", "rescheduleloans", "savingsaccounts"),
        *("standinginstructions", "tellers"),
    )
)
_READS = re.compile(
    r"search/advance|clients/search|datatables/[^/]+/query|savingsaccounts/[^/]+/transactions/query", re.IGNORECASE
)
_READING = {
    "calculateLoanSchedule": re.compile(r"loans", re.IGNORECASE),
    "generateCollectionSheet": re.compile(r"collectionsheet|(groups|centers)/[0-9]+", re.IGNORECASE),
}
"""Commands that ask, and where: elsewhere MIFOS takes no notice of them, and writes."""


READS = ("GET", "HEAD", "OPTIONS")


def shown_by(path: str) -> tuple[str, ...]:
    """The families of which a read of that path shows something; `path` is `Target.path`."""
    return (REFERENCE,) if _root(path) in _REFERENCE else (REFERENCE, ACCOUNTS)


def changed_by(path: str) -> tuple[str, ...]:
    """The families of which a write to that path may change something."""
    root = _root(path)
    if root in _ACCOUNTS:
        return (ACCOUNTS,)
    return (REFERENCE,) if root in _REFERENCE else (REFERENCE, ACCOUNTS)


def only_reads(path: str, query: str) -> bool:
    """Whether a POST there asks and changes nothing. Of several commands MIFOS takes one, and nobody knows which."""
    commands = [value for name, value in parse_qsl(query, keep_blank_values=True) if name.lower() == "command"]
    if not commands:
        return _READS.fullmatch(path) is not None
    where = _READING.get(commands[0]) if len(commands) == 1 else None
    return where is not None and where.fullmatch(path) is not None


def writes(method: str, path: str, query: str) -> bool:
    """Whether a call may change something."""
    return method not in READS and not (method == "POST" and only_reads(path, query))


def _root(path: str) -> str:
    return path.partition("/")[0].lower()

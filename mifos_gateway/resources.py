"""Which reads a write may have changed, by the first segment of their paths.

Two families, for MIFOS's resources show each other: a client's accounts its loans, a group's those of its clients, an
external id is another address of the same thing, and a loan bears its product's name. Reference data shows reference
data alone. So a write to reference data may change every read, any other write all reads but those of reference data.
Coarse, and never too narrow: a resource that is not named here is none of reference data.
"""

from __future__ import annotations

REFERENCE, ACCOUNTS = "reference", "accounts"

_REFERENCE = frozenset(
    (
        *("accountingrules", "accountnumberformats", "charges", "codes", "currencies", "delinquency"),
        *("entitytoentitymapping", "fieldconfiguration", "financialactivityaccounts", "fixeddepositproducts"),
        *("floatingrates", "funds", "grouplevels", "holidays", "interestratecharts", "likelihood", "loanproducts"),
        *("offices", "paymenttypes", "poverty", "products", "provisioningcategory", "provisioningcriteria", "rates"),
        *("recurringdepositproducts", "reports", "savingsproducts", "shareproduct", "staff", "taxes", "templates"),
        "workingdays",
    )
)
_TOUCHES_ALL = frozenset(
    ("batches", "businessdate", "caches", "imports", "internal", "jobs", "makercheckers", "scheduler")
)
"""Writes here carry out commands of any kind, or move time on."""


def shown_by(path: str) -> tuple[str, ...]:
    """The families of which a read of that path shows something; `path` is `Target.path`."""
    return (REFERENCE,) if _root(path) in _REFERENCE else (REFERENCE, ACCOUNTS)


def changed_by(path: str) -> tuple[str, ...]:
    """The families of which a write to that path may change something."""
    root = _root(path)
    if root in _TOUCHES_ALL:
        return (REFERENCE, ACCOUNTS)
    return (REFERENCE,) if root in _REFERENCE else (ACCOUNTS,)


def _root(path: str) -> str:
    return path.partition("/")[0].lower()

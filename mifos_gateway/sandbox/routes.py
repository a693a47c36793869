"""What there is: each method and path of the sandbox's Fineract, and what answers it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from . import clients, loans, organisation, reads, savings
from .call import Call
from .desk import Desk, Effect
from .messages import Answer, json_answer


@dataclass(frozen=True)
class Route:
    """`path` may end in `?command=…`, which the query must then say; `v2/` stands for /api/v2/."""

    method: str
    path: str
    answer: Callable[[Desk, Call], Answer]

    @property
    def command(self) -> str:
        return self.path.partition("?command=")[2]

    def match(self, segments: list[str]) -> tuple[tuple[int, ...], str] | None:
        """The ids and the name in a path that fits, else None."""
        expected = self.path.partition("?")[0].split("/")
        if len(expected) != len(segments):
            return None
        ids: list[int] = []
        name = ""
        for wanted, part in zip(expected, segments, strict=True):
            if wanted == "{id}" and re.fullmatch(r"[0-9]{1,18}", part):
                ids.append(int(part))
            elif wanted == "{name}" and part:
                name = part
            elif wanted != part:
                return None
        return tuple(ids), name


def read(method: str, path: str, answer: Callable[[Call], Answer]) -> Route:
    return Route(method, path, lambda desk, call: answer(call))


def command(method: str, path: str, permission: str, effect: Effect) -> Route:
    """A write through the command log, so it honours Idempotency-Key and maker-checker."""
    return Route(method, path, lambda desk, call: desk.run(call, permission, effect))


def commands(path: str, permissions: dict[str, str], effect: Effect) -> list[Route]:
    """One route for each `?command=`, which the effect gets as `command`."""
    return [
        command("POST", f"{path}?command={name}", permission, partial(effect, command=name))
        for name, permission in permissions.items()
    ]


def upload(desk: Desk, call: Call) -> Answer:
    """Multipart, so without a command row: no Idempotency-Key, no maker-checker, as in Fineract."""
    with call.bank.lock:
        call.bank.find("clients", call.ids[0])
        number = max((document for _, document in call.tenant.documents), default=0) + 1
        call.tenant.documents[call.ids[0], number] = (f"document-{number}", call.request.body)
    desk.note(call, action="CREATE", entity="DOCUMENT", id=call.ids[0], resourceId=number)
    return json_answer({"resourceId": number, "resourceIdentifier": str(number)})


ROUTES = (
    read("POST", "authentication", reads.authentication),
    # clients
    read("GET", "clients", reads.listing("clients")),
    read("GET", "clients/{id}", reads.single("clients")),
    read("GET", "clients/{id}/accounts", reads.client_accounts),
    read("GET", "clients/{id}/documents", reads.documents),
    read("GET", "clients/{id}/documents/{id}/attachment", reads.attachment),
    read("POST", "v2/clients/search", reads.search_clients),
    command("POST", "clients", "CREATE_CLIENT", clients.create),
    command("PUT", "clients/{id}", "UPDATE_CLIENT", clients.update),
    # Fineract has no PATCH at all; this one is here so that something answers a PATCH well.
    command("PATCH", "clients/{id}", "UPDATE_CLIENT", clients.update),
    command("DELETE", "clients/{id}", "DELETE_CLIENT", clients.delete),
    *commands(
        "clients/{id}",
        {
            "activate": "ACTIVATE_CLIENT",
            "close": "CLOSE_CLIENT",
            "reject": "REJECT_CLIENT",
            "reactivate": "REACTIVATE_CLIENT",
        },
        clients.decide,
    ),
    Route("POST", "clients/{id}/documents", upload),
    # loans
    read("GET", "loans", reads.listing("loans")),
    read("GET", "loans/{id}", reads.single("loans", loans.TRANSACTIONS)),
    read("GET", "loans/{id}/transactions", reads.transactions("loans", loans.TRANSACTIONS)),
    read("GET", "loans/{id}/transactions/{id}", reads.transaction(loans.TRANSACTIONS)),
    read("POST", "loans?command=calculateLoanSchedule", reads.loan_schedule),
    command("POST", "loans", "CREATE_LOAN", loans.create),
    *commands(
        "loans/{id}",
        {
            "approve": "APPROVE_LOAN",
            "undoapproval": "APPROVALUNDO_LOAN",
            "reject": "REJECT_LOAN",
            "withdrawnByApplicant": "WITHDRAW_LOAN",
        },
        loans.decide,
    ),
    command("POST", "loans/{id}?command=disburse", "DISBURSE_LOAN", loans.disburse),
    *commands("loans/{id}/transactions", {name: f"{name.upper()}_LOAN" for name in loans.CREDITS}, loans.credit),
    command("POST", "loans/{id}/transactions/{id}?command=undo", "ADJUST_LOAN", loans.undo),
    read("GET", "loanproducts", reads.listing("loanproducts", paged=False)),
    read("GET", "loanproducts/{id}", reads.single("loanproducts")),
    # savings
    read("GET", "savingsaccounts", reads.listing("savingsaccounts")),
    read("GET", "savingsaccounts/{id}", reads.single("savingsaccounts", savings.TRANSACTIONS)),
    read(
        "GET", "savingsaccounts/{id}/transactions/search", reads.transactions("savingsaccounts", savings.TRANSACTIONS)
    ),
    read("GET", "savingsaccounts/{id}/transactions/{id}", reads.transaction(savings.TRANSACTIONS)),
    command("POST", "savingsaccounts", "CREATE_SAVINGSACCOUNT", savings.create),
    *commands(
        "savingsaccounts/{id}",
        {name: f"{name.upper()}_SAVINGSACCOUNT" for name in savings.LIFECYCLE.decisions},
        savings.decide,
    ),
    *commands(
        "savingsaccounts/{id}/transactions",
        {name: f"{name.upper()}_SAVINGSACCOUNT" for name in savings.TOTALS},
        savings.move,
    ),
    # the organisation
    read("GET", "offices", reads.listing("offices", paged=False)),
    read("GET", "offices/{id}", reads.single("offices")),
    command("POST", "offices", "CREATE_OFFICE", organisation.create_office),
    command("PUT", "offices/{id}", "UPDATE_OFFICE", organisation.update_office),
    read("GET", "users", reads.listing("users", paged=False)),
    read("GET", "users/{id}", reads.single("users")),
    command("POST", "users", "CREATE_USER", organisation.create_user),
    # across all
    read("GET", "search", reads.search),
    read("GET", "runreports/{name}", reads.report),
    Route("GET", "makercheckers", Desk.inbox),
    Route("POST", "makercheckers/{id}?command=approve", Desk.approve),
    Route("POST", "makercheckers/{id}?command=reject", Desk.reject),
    Route("DELETE", "makercheckers/{id}", Desk.drop),
    Route("GET", "audits", Desk.audits),
    Route("GET", "audits/{id}", Desk.audit),
)

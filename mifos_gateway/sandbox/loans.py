"""What a command can do to a loan. Interest is flat: enough for a balance that moves, not a lender's arithmetic."""

from decimal import Decimal
from typing import Any

from . import clients
from .bank import Bank
from .errors import DomainRule, invalid, missing
from .terms import CENT, CURRENCY, Lifecycle, Payload, Record, amount, day, with_external_id

LIFECYCLE = Lifecycle(
    "loan",
    "loanStatusType",
    {
        100: "Submitted and pending approval",
        200: "Approved",
        300: "Active",
        400: "Withdrawn by applicant",
        500: "Rejected",
        600: "Closed (obligations met)",
        700: "Overpaid",
    },
    {
        "approve": (100, 200, "approvedOnDate"),
        "undoapproval": (200, 100, "submittedOnDate"),
        "reject": (100, 500, "rejectedOnDate"),
        "withdrawnByApplicant": (100, 400, "withdrawnOnDate"),
        "disburse": (200, 300, "actualDisbursementDate"),
    },
)
CREDITS = ("repayment", "merchantIssuedRefund", "payoutRefund", "goodwillCredit", "downPayment")
TRANSACTIONS = "loan_transactions"
NOTHING = Decimal(0)


def create(bank: Bank, payload: Payload) -> Record:
    client = clients.active(bank, payload)
    terms = _terms(bank, payload)
    interest = terms.pop("interest")
    bank.keep_unique("loans", payload)
    loan = {
        "accountNo": None,
        "externalId": payload.get("externalId"),
        "status": LIFECYCLE.status(100),
        "clientId": client["id"],
        "clientName": client["displayName"],
        "clientOfficeId": client["officeId"],
        "currency": CURRENCY,
        **terms,
        "timeline": {"submittedOnDate": day(payload, "submittedOnDate")},
        "summary": _summary(NOTHING, interest),
        "totalOverpaid": NOTHING,
    }
    return _result(bank.add("loans", loan))


def schedule(bank: Bank, payload: Payload) -> Record:
    """What `calculateLoanSchedule` shows; nothing is changed."""
    terms = _terms(bank, payload)
    principal, interest, periods = terms["principal"], terms["interest"], terms["numberOfRepayments"]
    return {
        "currency": CURRENCY,
        "totalPrincipalExpected": principal,
        "totalInterestCharged": interest,
        "totalRepaymentExpected": principal + interest,
        "periods": [
            {
                "period": number,
                "principalDue": _share(principal, periods, number),
                "interestDue": _share(interest, periods, number),
            }
            for number in range(1, periods + 1)
        ],
    }


def decide(bank: Bank, loan_id: int, payload: Payload, *, command: str) -> Record:
    loan = bank.find("loans", loan_id)
    LIFECYCLE.decide(loan, command, payload)
    return _result(loan) | {"changes": {"status": loan["status"]}}


def disburse(bank: Bank, loan_id: int, payload: Payload) -> Record:
    loan = bank.find("loans", loan_id)
    paid_out = amount(payload, "transactionAmount") if "transactionAmount" in payload else loan["principal"]
    bank.keep_unique(TRANSACTIONS, payload)
    LIFECYCLE.decide(loan, "disburse", payload)
    loan["summary"] = _summary(paid_out, loan["summary"]["interestCharged"])
    transaction = bank.transact(TRANSACTIONS, loan_id, "disbursement", paid_out, payload)
    return _result(loan) | {"subResourceId": transaction["id"], "changes": {"status": loan["status"]}}


def credit(bank: Bank, loan_id: int, payload: Payload, *, command: str) -> Record:
    loan = bank.find("loans", loan_id)
    paid = amount(payload, "transactionAmount")
    if loan["status"]["id"] not in (300, 700):
        message = f"Loan {loan_id} is not active."
        raise DomainRule("error.msg.loan.transaction.not.allowed.on.non.active", message, loan_id)
    bank.keep_unique(TRANSACTIONS, payload)
    transaction = bank.transact(TRANSACTIONS, loan_id, command, paid, payload)
    _settle(loan, paid)
    return with_external_id(transaction, _result(loan) | {"resourceId": transaction["id"]})


def undo(bank: Bank, loan_id: int, transaction_id: int, payload: Payload) -> Record:
    loan = bank.find("loans", loan_id)
    transaction = bank.transaction_of(TRANSACTIONS, loan_id, transaction_id)
    if transaction["manuallyReversed"]:
        raise missing("transaction", transaction_id)
    if transaction["type"]["value"] not in CREDITS:
        message = f"Transaction {transaction_id} cannot be undone."
        raise DomainRule("error.msg.loan.transaction.cannot.be.undone", message, transaction_id)
    transaction["manuallyReversed"] = True
    _settle(loan, -transaction["amount"])
    return _result(loan) | {"resourceId": transaction_id}


def _terms(bank: Bank, payload: Payload) -> Record:
    product = bank.given("loanproducts", "productId", payload)
    principal = amount(payload, "principal")
    rate = (
        amount(payload, "interestRatePerPeriod")
        if "interestRatePerPeriod" in payload
        else product["annualInterestRate"]
    )
    return {
        "loanProductId": product["id"],
        "loanProductName": product["name"],
        "principal": principal,
        "interest": (principal * rate / 100).quantize(CENT),
        "numberOfRepayments": _periods(payload.get("numberOfRepayments", product["numberOfRepayments"])),
    }


def _periods(given: Any) -> int:
    if not str(given).isdecimal() or not 1 <= int(given) <= 1_000:
        raise invalid("numberOfRepayments", "The parameter `numberOfRepayments` must be from 1 to 1000.", given)
    return int(given)


def _share(total: Decimal, periods: int, number: int) -> Decimal:
    share = (total / periods).quantize(CENT)
    return total - share * (periods - 1) if number == periods else share


def _summary(principal: Decimal, interest: Decimal) -> Record:
    expected = principal + interest if principal else NOTHING  # nothing is owed before the money is paid out
    return {
        "currency": CURRENCY,
        "principalDisbursed": principal,
        "interestCharged": interest,
        "totalExpectedRepayment": expected,
        "totalRepayment": NOTHING,
        "totalOutstanding": expected,
    }


def _settle(loan: Record, paid: Decimal) -> None:
    summary = loan["summary"]
    summary["totalRepayment"] += paid
    outstanding = summary["totalExpectedRepayment"] - summary["totalRepayment"]
    summary["totalOutstanding"] = max(outstanding, NOTHING)
    loan["totalOverpaid"] = max(-outstanding, NOTHING)
    loan["status"] = LIFECYCLE.status(300 if outstanding > 0 else 600 if outstanding == 0 else 700)


def _result(loan: Record) -> Record:
    identifier = loan["id"]
    owner = {"officeId": loan["clientOfficeId"], "clientId": loan["clientId"]}
    return with_external_id(loan, owner | {"loanId": identifier, "resourceId": identifier})

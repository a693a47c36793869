"""The sample data that every tenant's bank starts with; the same in every run."""

from decimal import Decimal

from . import clients, loans, savings
from .bank import Bank
from .organisation import create_office, create_user
from .terms import CURRENCY

SEEDED_CLIENTS = 60  # each with a loan and a savings account of the same id: fifty order keys need no preparation
FIRST_NAMES = ("Ada", "Amina", "Chen", "Dario", "Esi", "Farid", "Grace", "Hana", "Ivo", "Juma", "Kofi")
LAST_NAMES = ("Abara", "Banda", "Costa", "Diallo", "Eze", "Fofana", "Gupta", "Hassan", "Ito", "Kimani", "Lopez")
PRODUCTS = (("Group Loan", 12), ("Small Business Loan", 18))


def seeded_bank(tenant: str) -> Bank:
    bank = Bank()
    head = "Head Office" if tenant == "default" else f"Head Office of {tenant}"
    named = {"name": head, "nameDecorated": head, "externalId": "office-1"}
    bank.add("offices", named | {"hierarchy": ".", "openingDate": [2009, 1, 1]})
    create_office(bank, {"name": "Riverside Branch", "externalId": "office-2"})
    for name, rate in PRODUCTS:
        product = {"name": name, "annualInterestRate": Decimal(rate), "numberOfRepayments": 12}
        bank.add("loanproducts", product | {"currency": CURRENCY})
    for username in ("maker", "checker"):
        create_user(bank, {"username": username})
    for number in range(1, SEEDED_CLIENTS + 1):
        _add_client(bank, number)
    return bank


def _add_client(bank: Bank, number: int) -> None:
    name = {"firstname": FIRST_NAMES[number % 11], "lastname": LAST_NAMES[number // 11 % 11]}
    clients.create(bank, name | {"externalId": f"client-{number}", "officeId": 1 + number % 2, "active": True})
    owned = {"clientId": number, "productId": 1}
    loans.create(bank, owned | {"principal": 10_000, "externalId": f"loan-{number}"})
    loans.decide(bank, number, {}, command="approve")
    loans.disburse(bank, number, {})
    savings.create(bank, owned | {"externalId": f"savings-{number}"})
    savings.decide(bank, number, {}, command="approve")
    savings.decide(bank, number, {}, command="activate")
    savings.move(bank, number, {"transactionAmount": 1_000}, command="deposit")

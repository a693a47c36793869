"""What a command can do to an office or a user."""

from .bank import Bank
from .errors import required
from .terms import Payload, Record, change, day, duplicate


def create_office(bank: Bank, payload: Payload) -> Record:
    if not payload.get("name"):
        raise required("name")
    parent = bank.given("offices", "parentId", payload, default=1)
    bank.keep_unique("offices", payload)
    if any(row["name"] == payload["name"] for row in bank.table("offices").values()):
        raise duplicate("office", "name", payload["name"])
    opened = day(payload, "openingDate")
    office = bank.add("offices", {"name": payload["name"], "externalId": payload.get("externalId")})
    office.update(nameDecorated=f"....{office['name']}", openingDate=opened)
    office.update(hierarchy=f"{parent['hierarchy']}{office['id']}.", parentId=parent["id"])
    return {"officeId": office["id"], "resourceId": office["id"]}


def update_office(bank: Bank, office_id: int, payload: Payload) -> Record:
    office = bank.find("offices", office_id)
    bank.keep_unique("offices", payload, but=office_id)
    changes = change(office, payload, ("name", "externalId"))
    return {"officeId": office_id, "resourceId": office_id, "changes": changes}


def create_user(bank: Bank, payload: Payload) -> Record:
    if not payload.get("username"):
        raise required("username")
    office = bank.find("offices", 1)
    user = {"username": payload["username"], "officeId": office["id"], "officeName": office["name"]}
    return {"officeId": office["id"], "resourceId": bank.add("users", user)["id"]}

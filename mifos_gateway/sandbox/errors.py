"""Fineract's errors, in Fineract's own JSON.

FineractError
├── BadRequest         400 validation.msg.validation.errors.exist
├── BadJson            400 (the bare inner object, as Fineract does)
├── NotAuthenticated   401 error.msg.not.authenticated
├── NotAuthorized      403 error.msg.not.authorized
├── DomainRule         403 validation.msg.domain.rule.violation
├── DataIntegrity      403 the duplicate's own code
├── NotFound           404 error.msg.resource.not.found
├── InvalidMethod      405 error.msg.invalid.instance.type
├── Conflict           409 error.msg.platform.service.command.conflict
├── ServerError        500 error.msg.platform.server.side.error
└── Unavailable        503 error.msg.platform.service.unavailable
"""

from typing import Any

from .messages import Answer, html_answer, json_answer


def detail(
    code: str, message: str, *, parameter: str = "id", value: Any = None, args: tuple[Any, ...] = ()
) -> dict[str, Any]:
    """One entry of `errors`."""
    return {
        "developerMessage": message,
        "defaultUserMessage": message,
        "userMessageGlobalisationCode": code,
        "parameterName": parameter,
        "value": value,
        "args": [{"value": arg} for arg in args],
    }


class FineractError(Exception):
    """A refusal that Fineract would answer; `content` is its JSON."""

    status = 500
    code = ""
    developer_message = ""
    user_message = ""

    def __init__(self, *errors: dict[str, Any]) -> None:
        super().__init__(self.code)
        self.errors = list(errors)

    @property
    def content(self) -> dict[str, Any]:
        return {
            "developerMessage": self.developer_message,
            "httpStatusCode": str(self.status),  # a string in Fineract too
            "defaultUserMessage": self.user_message,
            "userMessageGlobalisationCode": self.code,
            "errors": self.errors,
        }

    def answer(self) -> Answer:
        return json_answer(self.content, self.status)


class BadRequest(FineractError):
    status = 400
    code = "validation.msg.validation.errors.exist"
    developer_message = (
        "The request was invalid. This typically will happen due to validation errors which are provided."
    )
    user_message = "Validation errors exist."


class BadJson(FineractError):
    status = 400
    code = "error.msg.invalid.request.body"

    @property
    def content(self) -> dict[str, Any]:
        message = (
            "The referenced JSON data is invalid, validate date format as yyyy-MM-dd or other cases like "
            "String instead of Number"
        )
        return detail(self.code, message, parameter="body")


class NotAuthenticated(FineractError):
    status = 401
    code = "error.msg.not.authenticated"
    developer_message = "Invalid authentication details were passed in api request."
    user_message = "Unauthenticated. Please login."

    def answer(self) -> Answer:
        return super().answer().having(("WWW-Authenticate", 'Basic realm="Fineract Platform API"'))


class NotAuthorized(FineractError):
    status = 403
    code = "error.msg.not.authorized"
    developer_message = (
        "The user associated with credentials passed on this request does not have sufficient privileges "
        "to perform this action."
    )
    user_message = "Insufficient privileges to perform this action."

    def __init__(self, permission: str) -> None:
        super().__init__(detail(self.code, f"User has no authority to: {permission}", args=(permission,)))


class DomainRule(FineractError):
    status = 403
    code = "validation.msg.domain.rule.violation"
    developer_message = "Request was understood but caused a domain rule violation."
    user_message = "Errors contain reason for domain rule violation."

    def __init__(self, code: str, message: str, *args: Any) -> None:
        super().__init__(detail(code, message, args=args))


class DataIntegrity(FineractError):
    status = 403
    developer_message = "The request caused a data integrity issue to be fired by the database."

    def __init__(self, code: str, message: str, *, parameter: str, value: Any) -> None:
        self.code, self.user_message = code, message
        super().__init__(detail(code, message, parameter=parameter, value=value, args=(value,)))


class NotFound(FineractError):
    status = 404
    code = "error.msg.resource.not.found"
    developer_message = "The requested resource is not available."
    user_message = "The requested resource is not available."

    def __init__(self, code: str, message: str, *args: Any) -> None:
        super().__init__(detail(code, message, args=args))


class InvalidMethod(FineractError):
    status = 405
    code = "error.msg.invalid.instance.type"

    def __init__(self, method: str) -> None:
        super().__init__()
        self.developer_message = f"Invalid instance type called in api request for the method {method}"
        self.user_message = f"Invalid Instance Type {method}"


class ServerError(FineractError):
    status = 500
    code = "error.msg.platform.server.side.error"
    developer_message = "An unexpected error occured on the platform server."
    user_message = "An unexpected error occured on the platform server. "


class Conflict(FineractError):
    status = 409
    code = "error.msg.platform.service.command.conflict"
    developer_message = "The request caused concurrency failures or deadlocks."
    user_message = "The request was not processed: another one changed the same data."


class Unavailable(FineractError):
    status = 503
    code = "error.msg.platform.service.unavailable"
    developer_message = "The server is currently unable to handle the request , please try after some time."
    user_message = "The server is currently unable to handle the request."


def unmapped(error: Exception) -> Answer:
    """Fineract's catch-all says no more either."""
    return json_answer({"Exception": repr(error)}, 500)


def missing(kind: str, identifier: Any) -> NotFound:
    return NotFound(
        f"error.msg.{kind}.id.invalid", f"{kind.capitalize()} with identifier {identifier} does not exist", identifier
    )


def invalid(parameter: str, message: str, value: Any = None, *, rule: str = "invalid") -> BadRequest:
    return BadRequest(detail(f"validation.msg.{parameter}.{rule}", message, parameter=parameter, value=value))


def required(parameter: str) -> BadRequest:
    return invalid(parameter, f"The parameter `{parameter}` is mandatory.", rule="cannot.be.blank")


def usual_answer(status: int) -> Answer:
    """What MIFOS, or a proxy in front of it, usually says with this status."""
    ours = {error.status: error for error in (ServerError, Conflict, Unavailable, NotAuthenticated, BadRequest)}
    if status in ours:
        return ours[status]().answer()
    return html_answer(
        status, {429: "Too Many Requests", 502: "Bad Gateway", 504: "Gateway Time-out"}.get(status, "Error")
    )

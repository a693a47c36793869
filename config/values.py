"""What a value in the environment may look like: each parser returns it typed, or says what is allowed."""

import base64
import json
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from environs import ValidationError

TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})
SECONDS_AT_MOST = 3600


def text(value: str) -> str:
    if any(ord(char) < 32 for char in value):
        raise ValidationError("one line without control characters is allowed; check for a stray newline")
    return value


def username(value: str) -> str:
    if ":" in value:
        raise ValidationError("a user name without ':' is allowed; the password has a variable of its own")
    return text(value)


def token(value: str) -> str:
    """What a caller sends as Bearer."""
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]{16,}=*", value):
        raise ValidationError("16 or more of A-Z a-z 0-9 . _ ~ + / - are allowed (try `openssl rand -hex 32`)")
    return value


def boolean(value: str) -> bool:
    word = value.strip().lower()
    if word not in TRUE | FALSE:
        raise ValidationError("true, false, 1, 0, yes, no, on or off is allowed")
    return word in TRUE


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        found = next((choice for choice in choices if choice.lower() == value.strip().lower()), None)
        if found is None:
            raise ValidationError(f"{', '.join(choices[:-1])} or {choices[-1]} is allowed")
        return found

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"\s*-?[0-9]{1,18}\s*", value) or not low <= int(value) <= high:
            raise ValidationError(f"a whole number from {low} to {high} is allowed")
        return int(value)

    return parse


def percentage(value: str) -> float:
    number = _decimal(value)
    if number is None or not 0 <= number <= 100:
        raise ValidationError("a percentage from 0 to 100 is allowed, without the percent sign")
    return number


def seconds(value: str) -> float:
    number = _decimal(value)
    if number is not None and number > SECONDS_AT_MOST:
        raise ValidationError(f"seconds, not milliseconds; at most {SECONDS_AT_MOST} is allowed")
    if number is None or number <= 0:
        raise ValidationError(f"seconds, more than 0 and at most {SECONDS_AT_MOST}, are allowed (such as 30 or 0.5)")
    return number


def _decimal(value: str) -> float | None:
    """Not float(): that takes 'nan', 'inf' and '1_000' as well."""
    return float(value) if re.fullmatch(r"\s*-?[0-9]+(\.[0-9]+)?\s*", value) else None


def words(value: str) -> list[str]:
    return [word for word in (part.strip() for part in value.split(",")) if word]


def seconds_by_pattern(value: str) -> dict[str, int]:
    """`offices=600,loanproducts*=3600`; what a pattern may be the gateway judges."""
    found: dict[str, int] = {}
    for word in words(value):
        pattern, _, given = word.rpartition("=")
        if (
            not pattern.strip()
            or " " in pattern.strip()
            or not re.fullmatch(r"\s*[0-9]{1,5}\s*", given)
            or int(given) > 86_400
        ):
            raise ValidationError(
                f"pattern=seconds, comma-separated, is allowed, such as offices=600, at most 86400; not {word}"
            )
        found[pattern.strip()] = int(given)
    return found


def seconds_by_rule(value: str) -> dict[str, int | None]:
    """`POST clients,POST loans/*=600`: rules, each with a time to live in seconds or without."""
    found: dict[str, int | None] = {}
    for word in words(value):
        rule, _, given = word.rpartition("=")
        if rule and re.fullmatch(r"\s*[0-9]{1,8}\s*", given):
            if not int(given):
                raise ValidationError(
                    f"a time to live of 0 defers nothing: leave {rule.strip()} out, or give it seconds"
                )
            found[rule.strip()] = int(given)
        else:
            found[word] = None
    return found


def rate(value: str) -> float:
    number = _decimal(value)
    if number is None or not 0 < number <= 10_000:
        raise ValidationError("a number per second, more than 0 and at most 10000, is allowed")
    return number


def fernet_keys(value: str) -> list[str]:
    found = words(value)
    for key in found:
        try:
            fits = len(base64.urlsafe_b64decode(key)) == 32
        except ValueError:
            fits = False
        if not fits:
            raise ValidationError(
                "keys of 32 bytes in url-safe base64, comma-separated, are allowed, as Python's "
                "cryptography.fernet.Fernet.generate_key() makes them"
            )
    return found


def hosts(value: str) -> list[str]:
    names = words(value)
    wrong = [name for name in names if not re.fullmatch(r"\*|\.?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", name)]
    if wrong:
        raise ValidationError(f"host names without scheme, port or path, comma-separated, are allowed; not {wrong[0]}")
    return names


def origins(value: str) -> list[str]:
    found = words(value)
    wrong = [origin for origin in found if not re.fullmatch(r"https?://[^/?#\s]+", origin)]
    if wrong:
        raise ValidationError(
            f"origins such as https://gateway.example.org, comma-separated, are allowed; not {wrong[0]}"
        )
    return found


def namespace(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", value):
        raise ValidationError("letters, digits and . _ : - are allowed, at most 100, a letter or digit first")
    return value


def header_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", value):
        raise ValidationError("a header's name, such as X-Forwarded-Proto, is allowed")
    return value


def http_url(value: str) -> str:
    form = "http://host or https://host, with a port and a path where needed,"
    url = _split(value, form)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValidationError(f"{form} is allowed")
    if url.username is not None or url.password is not None:
        raise ValidationError("no credentials are allowed here: they have variables of their own")
    if url.query or url.fragment:
        raise ValidationError("neither a query nor a fragment is allowed")
    return value.rstrip("/")


def redis_url(value: str) -> str:
    form = "redis://host:6379/0, rediss:// (TLS) or unix:///absolute/path"
    url = _split(value, form)
    if url.scheme in ("redis", "rediss"):
        if not url.hostname or not re.fullmatch(r"/?[0-9]*", url.path):
            raise ValidationError(f"{form} is allowed; with a host, and the path is the database's number")
    elif url.scheme != "unix" or url.netloc or not url.path.startswith("/"):
        raise ValidationError(f"{form} is allowed")
    if not dict(parse_qsl(url.query)).get("db", "0").isdecimal():
        raise ValidationError("?db= takes the database's number")
    return value


def database_url(value: str) -> str:
    form = "postgres://user:password@host:5432/name or sqlite:////absolute/path"
    url = _split(value, form)
    if url.scheme in ("postgres", "postgresql"):
        if not url.path.strip("/"):
            raise ValidationError(f"{form} is allowed; the database's name is missing")
    elif url.scheme != "sqlite" or url.netloc or not re.match(r"//[^/]", url.path):
        raise ValidationError(f"{form} is allowed")
    return value


def _split(value: str, form: str) -> SplitResult:
    try:
        url = urlsplit(value)
        _ = url.port, url.hostname
    except ValueError:
        url = None
    if url is None or "://" not in value or re.search(r"\s", value):
        raise ValidationError(f"{form} is allowed; special characters in a URL need percent-encoding")
    return url


def authorities(value: str) -> str:
    """Loaded once here: the first call to MIFOS would find out otherwise."""
    form = "the absolute path of an existing PEM file, or of a folder of such, is allowed"
    path = Path(value)
    if not path.is_absolute():
        raise ValidationError(form)
    try:
        if path.is_dir():
            next(path.iterdir())
        else:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ValidationError(f"{form} (no certificate in it)") from None
    except StopIteration:
        raise ValidationError(f"{form} (nothing in it)") from None
    except (OSError, ValueError) as error:
        raise ValidationError(f"{form} ({getattr(error, 'strerror', None) or error})") from None
    return value


def addresses(value: str) -> list[tuple[str, int]]:
    pairs = [word.rpartition(":") for word in words(value)]
    if not all(host and port.isdecimal() and 0 < int(port) < 65536 for host, _, port in pairs):
        raise ValidationError("host:port, comma-separated, is allowed")
    return [(host, int(port)) for host, _, port in pairs]


def breaker_options(value: str) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(options, dict) for options in found.values()):
        raise ValidationError('a JSON object such as {"MIFOS-Maker-post": {"timeout": 60}} is allowed')
    return found

"""Reading the environment: typed values, and every wrong one named at once."""

import re
from pathlib import Path

import pytest
import trustme

from config import env
from config.devstate import CHECKOUT


def problems() -> list[str]:
    with pytest.raises(env.BadEnvironment) as raised:
        env.read()
    return raised.value.problems


@pytest.mark.parametrize(
    ("name", "value", "typed"),
    [
        ("PORT", "8080", 8080),
        ("BREAKER_TIMEOUT", "0.5", 0.5),
        ("BREAKER_TIMEOUT", "3600", 3600.0),
        ("BREAKER_ERROR_THRESHOLD_PERCENTAGE", "0", 0.0),
        ("BREAKER_ENABLED", "No", False),
        ("MIFOS_VERIFY_TLS", "ON", True),
        ("LOG_FORMAT", "JSON", "json"),
        ("DJANGO_ALLOWED_HOSTS", "a.example.org, .b.example.org", ["a.example.org", ".b.example.org"]),
        ("MIFOS_BASE_URL", "https://mifos.example.org:8443/x/", "https://mifos.example.org:8443/x"),
        ("REDIS_SENTINELS", "a:26379,b:26380", [("a", 26379), ("b", 26380)]),
        ("BREAKER_OPTIONS", '{"MIFOS-Maker-post": {"timeout": 60}}', {"MIFOS-Maker-post": {"timeout": 60}}),
    ],
)
def test_a_value_is_typed(monkeypatch, name, value, typed):
    monkeypatch.setenv(name, value)

    assert env.read()[name] == typed


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PORT", "0", "from 1 to 65535"),
        ("PORT", "8000.5", "whole number"),
        ("WEB_CONCURRENCY", "0", "from 1 to 256"),
        ("BREAKER_TIMEOUT", "30000", "seconds, not milliseconds; at most 3600"),
        ("BREAKER_TIMEOUT", "0", "more than 0"),
        ("BREAKER_TIMEOUT", "-1", "more than 0"),
        ("BREAKER_TIMEOUT", "nan", "seconds"),
        ("BREAKER_TIMEOUT", "30s", "seconds"),
        ("BREAKER_ERROR_THRESHOLD_PERCENTAGE", "101", "from 0 to 100"),
        ("BREAKER_ERROR_THRESHOLD_PERCENTAGE", "50%", "without the percent sign"),
        ("BREAKER_VOLUME_THRESHOLD", "1_000", "whole number"),
        ("DJANGO_DEBUG", "yess", "true, false, 1, 0, yes, no, on or off"),
        ("LOG_FORMAT", "xml", "plain or json"),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO"),
        ("MIFOS_BASE_URL", "mifos.example.org", "http://host or https://host"),
        ("MIFOS_BASE_URL", "https://mifos.example.org/?tenant=x", "query"),
        ("MIFOS_BASE_URL", "https://mifos.example.org:99999/", "port"),
        ("REDIS_URL", "http://redis", "redis://host:6379/0, rediss://"),
        ("REDIS_URL", "redis://redis/x", "number"),
        ("REDIS_URL", "unix://relative.sock", "unix:///absolute/path"),
        ("DATABASE_URL", "sqlite:///relative.sqlite3", "sqlite:////absolute/path"),
        ("DATABASE_URL", "sqlite://:memory:", "sqlite:////absolute/path"),
        ("DATABASE_URL", "mysql://db/x", "postgres://"),
        ("DATABASE_URL", "postgres://db", "name is missing"),
        ("DJANGO_ALLOWED_HOSTS", "https://gateway.example.org", "without scheme"),
        ("DJANGO_CSRF_TRUSTED_ORIGINS", "gateway.example.org", "origins such as https://"),
        ("MIFOS_MAKER_USERNAME", "maker:secret", "without ':'"),
        ("BREAKER_NAMESPACE", "{x}", "letters, digits"),
        ("BREAKER_OPTIONS", "[]", "JSON object"),
        ("BREAKER_OPTIONS", '{"MIFOS-Maker-get": {"timout": 3}}', "did you mean timeout?"),
        ("BREAKER_ROLLING_COUNT_TIMEOUT", "0.05", "at least 10 ms a slice"),
        ("GATEWAY_DENIED_ROUTES", "users*", "does not begin with a method"),
        ("GATEWAY_CACHED_ROUTES", "offices", "not offices"),
        ("GATEWAY_CACHED_ROUTES", "offices=10m", "not offices=10m"),
        ("GATEWAY_CACHED_ROUTES", "POST offices=10", "not POST offices=10"),
        ("GATEWAY_CACHED_ROUTES", "a=1,offices=86401", "not offices=86401"),
        ("GATEWAY_CACHED_ROUTES", "offices?a=b=5", "holds a query"),
        ("GATEWAY_PAYLOAD_KEYS", "c2hvcnQ=", "keys of 32 bytes"),
        ("MIFOS_CA_BUNDLE", "ca.pem", "absolute path"),
        ("MIFOS_CA_BUNDLE", "/nowhere/ca.pem", "an existing PEM file"),
        ("MIFOS_CA_BUNDLE", str(CHECKOUT / "Makefile"), "an existing PEM file"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(monkeypatch, name, value, allowed):
    monkeypatch.setenv(name, value)

    (problem,) = problems()

    assert allowed in problem


def test_all_bad_values_are_named_at_once_with_their_values(monkeypatch):
    monkeypatch.setenv("BREAKER_TIMEOUT", "30000")
    monkeypatch.setenv("DJANGO_DEBUG", "yess")
    monkeypatch.setenv("PORT", "http")
    monkeypatch.setenv("GATEWAY_DENIED_ROUTES", "users*")
    monkeypatch.setenv("MIFOS_CA_BUNDLE", "/nope")

    told = "\n".join(problems())

    named = ("BREAKER_TIMEOUT=30000", "DJANGO_DEBUG=yess", "PORT=http", "'users*'", "MIFOS_CA_BUNDLE=/nope: ")
    assert [part for part in named if part not in told] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MIFOS_MAKER_PASSWORD", "hush\x01hush"),
        ("DJANGO_SECRET_KEY", "hush\nhush"),
        ("REDIS_URL", "http://:hush@redis/0"),
        ("REDIS_URL", "redis://redis/x?password=hush"),
        ("DATABASE_URL", "mysql://user:hush@db/x"),
        ("DATABASE_URL", "postgres:hush"),
        ("MIFOS_BASE_URL", "https://user:hush@mifos.example.org"),
        ("REDIS_URL", "http://:hu@sh@redis/0"),
    ],
)
def test_no_message_holds_a_secret(monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    told = "".join(problems())

    assert name in told
    assert not re.search("hush|hu@|sh@", told)


def test_an_empty_folder_of_authorities_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MIFOS_CA_BUNDLE", str(tmp_path))

    assert "nothing in it" in "".join(problems())


def test_authorities_may_be_a_file_or_its_folder(monkeypatch, tmp_path):
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))

    for path in (bundle, tmp_path):
        monkeypatch.setenv("MIFOS_CA_BUNDLE", str(path))
        assert env.read()["MIFOS_CA_BUNDLE"] == str(path)


def test_an_empty_value_is_as_good_as_none(monkeypatch):
    monkeypatch.setenv("BREAKER_TIMEOUT", "")

    assert env.read()["BREAKER_TIMEOUT"] == 30.0


def test_empty_denied_routes_deny_none(monkeypatch):
    monkeypatch.setenv("GATEWAY_DENIED_ROUTES", "")

    assert env.read()["GATEWAY_DENIED_ROUTES"] == []


def test_unset_denied_routes_are_left_to_the_app():
    assert env.read()["GATEWAY_DENIED_ROUTES"] is None


def test_it_is_known_what_somebody_has_set(monkeypatch, tmp_path):
    assert not env.is_given("BREAKER_TIMEOUT")
    assert env.is_given("BREAKER_TIMEOUT", {"BREAKER_TIMEOUT": "5"})

    monkeypatch.setenv("BREAKER_TIMEOUT", "")
    assert not env.is_given("BREAKER_TIMEOUT")

    monkeypatch.setenv("BREAKER_TIMEOUT_FILE", str(tmp_path))
    assert env.is_given("BREAKER_TIMEOUT")


def test_a_secret_comes_from_its_file_without_the_last_newline(monkeypatch, tmp_path):
    (tmp_path / "password").write_text(" with spaces \n")
    monkeypatch.delenv("MIFOS_MAKER_PASSWORD")
    monkeypatch.setenv("MIFOS_MAKER_PASSWORD_FILE", str(tmp_path / "password"))

    assert env.read()["MIFOS_MAKER_PASSWORD"] == " with spaces "


def test_a_missing_file_is_named_with_its_path(monkeypatch, tmp_path):
    monkeypatch.delenv("MIFOS_MAKER_PASSWORD")
    monkeypatch.setenv("MIFOS_MAKER_PASSWORD_FILE", str(tmp_path / "none"))

    (problem,) = problems()

    assert problem.startswith(f"MIFOS_MAKER_PASSWORD_FILE={tmp_path / 'none'}: ")


def test_a_bad_value_from_a_file_is_not_shown(monkeypatch, tmp_path):
    (tmp_path / "key").write_text("hush\x01")
    monkeypatch.delenv("DJANGO_SECRET_KEY")
    monkeypatch.setenv("DJANGO_SECRET_KEY_FILE", str(tmp_path / "key"))

    (problem,) = problems()

    assert problem.startswith("DJANGO_SECRET_KEY: ")


def test_a_variable_and_its_file_together_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MIFOS_MAKER_PASSWORD_FILE", str(tmp_path / "password"))

    (problem,) = problems()

    assert "set only one" in problem


def test_a_saved_value_counts_where_the_environment_has_none(monkeypatch):
    monkeypatch.setenv("BREAKER_RESET_TIMEOUT", "7")

    found = env.read({"BREAKER_TIMEOUT": "3", "BREAKER_RESET_TIMEOUT": "9"})

    assert (found["BREAKER_TIMEOUT"], found["BREAKER_RESET_TIMEOUT"]) == (3.0, 7.0)


def test_a_file_in_the_environment_wins_over_a_saved_value(monkeypatch, tmp_path):
    (tmp_path / "url").write_text("redis://mine/0\n")
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "url"))

    assert env.read({"REDIS_URL": "redis://saved/0"})["REDIS_URL"] == "redis://mine/0"


def readme_rows() -> dict[str, list[str]]:
    """The first column's variable (and the other cells) of every table row of the README that begins with one."""
    text = (CHECKOUT / "README.md").read_text() if (CHECKOUT / "README.md").exists() else ""
    rows = [
        line.strip().strip("|").split("|") for line in text.splitlines() if re.match(r"\|\s*`[A-Z][A-Z0-9_]+`", line)
    ]
    return {re.findall(r"`([A-Z][A-Z0-9_]+)`", cells[0])[0]: [cell.strip() for cell in cells[1:]] for cells in rows}


needs_readme = pytest.mark.skipif(not (CHECKOUT / "README.md").exists(), reason="there is no README.md yet")


@needs_readme
def test_the_readme_has_a_row_for_every_variable_and_no_other():
    assert set(readme_rows()) == env.NAMES


@needs_readme
@pytest.mark.parametrize("variable", [each for each in env.VARIABLES if each.default], ids=lambda each: each.name)
def test_the_readme_tells_the_default(variable):
    told = " ".join(readme_rows().get(variable.name, []))

    assert f"`{variable.default}`" in told


@pytest.mark.parametrize("path", sorted((CHECKOUT / "config").glob("*.py")), ids=lambda path: path.name)
def test_the_environment_is_read_in_one_place(path: Path):
    read = set(re.findall(r"os\.environ(?:\.get\(|\[|\.setdefault\()\"([A-Z_]+)\"", path.read_text()))

    assert (
        read - {"DJANGO_SETTINGS_MODULE", "PORT", "DJANGO_DEBUG", "DJANGO_SECRET_KEY", "DJANGO_SECRET_KEY_FILE"}
        == set()
    )

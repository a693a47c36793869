"""Who finds what `make up` chose, and who must not."""

import pytest

from config import devstate


@pytest.fixture
def saved(monkeypatch, tmp_path):
    """A `make up` ran for PORT 8000, and this process was given no setting."""
    monkeypatch.setattr(devstate, "CHECKOUT", tmp_path)
    for name in ("DJANGO_DEBUG", "DJANGO_SECRET_KEY", "PORT"):
        monkeypatch.delenv(name, raising=False)
    content = {"DJANGO_DEBUG": "true", "DJANGO_SECRET_KEY": "chosen", "DATABASE_URL": "sqlite:////chosen"}
    devstate.save(tmp_path / "var" / "8000" / "env", content)
    return content


def test_a_command_of_the_same_port_finds_it(saved):
    assert devstate.chosen() == saved


def test_a_command_of_another_port_does_not(saved, monkeypatch):
    monkeypatch.setenv("PORT", "8001")

    assert devstate.chosen() == {}


def test_a_server_does_not(saved, monkeypatch):
    monkeypatch.setattr(devstate, "serving", True)

    assert devstate.chosen() == {}


@pytest.mark.parametrize("value", ["false", "0", "No"])
def test_production_by_its_name_does_not(saved, monkeypatch, value):
    monkeypatch.setenv("DJANGO_DEBUG", value)

    assert devstate.chosen() == {}


def test_who_has_another_secret_key_does_not(saved, monkeypatch):
    monkeypatch.setenv("DJANGO_SECRET_KEY", "a deployment's own")

    assert devstate.chosen() == {}


def test_who_has_the_same_secret_key_does(saved, monkeypatch):
    monkeypatch.setenv("DJANGO_SECRET_KEY", "chosen")

    assert devstate.chosen() == saved


def test_the_file_is_its_owners_alone(saved, tmp_path):
    assert (tmp_path / "var" / "8000" / "env").stat().st_mode & 0o777 == 0o600


def test_a_broken_file_is_as_good_as_none(saved, tmp_path):
    (tmp_path / "var" / "8000" / "env").write_text("{")

    assert devstate.chosen() == {}

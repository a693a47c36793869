"""Routes without what they hold."""

import pytest

from mifos_gateway import route_template


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("clients", "clients"),
        ("clients/17/accounts", "clients/{id}/accounts"),
        ("clients/external-id/ABC-123", "clients/external-id/{value}"),
        ("runreports/Client Listing", "runreports/{value}"),
        ("datatables/d_client/1/2", "datatables/{value}/{id}/{id}"),
        ("Asha Rao", "{value}"),
        ("clients/Asha", "clients/{value}"),
        ("clients/٣", "clients/{value}"),
    ],
)
def test_only_fineracts_own_words_are_kept(path: str, template: str) -> None:
    assert route_template.of(path) == template


def test_a_v2_route_says_so() -> None:
    assert route_template.of("clients/search", version="v2") == "v2/clients/search"


def test_a_template_is_never_long() -> None:
    assert len(route_template.of("/".join(["x" * 100] * 500))) < 120

"""What follows from an address."""

import pytest

from config import addresses


@pytest.mark.parametrize(
    ("url", "following"),
    [
        ("redis://redis", "redis://redis/1"),
        ("redis://:pw@redis:6379/3", "redis://:pw@redis:6379/4"),
        ("rediss://redis/0", "rediss://redis/1"),
        ("redis://redis?db=2", "redis://redis?db=3"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=1"),
        ("unix:///run/redis.sock?db=4", "unix:///run/redis.sock?db=5"),
    ],
)
def test_the_cache_is_in_the_next_database(url, following):
    assert addresses.next_database(url) == following


@pytest.mark.parametrize(
    "url",
    [
        "https://mifos.example.org/fineract-provider",
        "https://mifos.example.org/fineract-provider/api/v1",
        "https://MIFOS.example.org:443/fineract-provider/",
    ],
)
def test_every_way_to_write_one_mifos_is_one_namespace(url):
    assert addresses.namespace(url, "default") == addresses.namespace(
        "https://mifos.example.org/fineract-provider", "default"
    )


@pytest.mark.parametrize(
    ("url", "tenant"),
    [
        ("https://staging.example.org/fineract-provider", "default"),
        ("http://mifos.example.org/fineract-provider", "default"),
        ("https://mifos.example.org/other", "default"),
        ("https://mifos.example.org/fineract-provider", "second"),
    ],
)
def test_another_mifos_is_another_namespace(url, tenant):
    assert addresses.namespace(url, tenant) != addresses.namespace(
        "https://mifos.example.org/fineract-provider", "default"
    )


def test_a_namespace_holds_nothing_that_redis_keys_give_a_meaning():
    assert not set("{}*? \n") & set(addresses.namespace("https://m.example.org/x", "tenant {1} *"))

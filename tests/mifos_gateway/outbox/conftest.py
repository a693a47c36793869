"""What the tests of the outbox share."""

from tests.mifos_gateway.test_deferred import routes

__all__ = ["routes"]

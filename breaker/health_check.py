"""The breakers' health for django-health-check's page: an entry of its view's `checks`.

path("health/", HealthCheckView.as_view(checks=[..., "breaker.health_check.CircuitBreakers"]))
("breaker.health_check.CircuitBreakers", {"names": ("payments", "balance")})
"""

from __future__ import annotations

import dataclasses

from health_check.base import HealthCheck
from health_check.exceptions import ServiceReturnedUnexpectedResult, ServiceUnavailable

from breaker import queries


@dataclasses.dataclass
class CircuitBreakers(HealthCheck):  # type: ignore[misc]  # the package has no types
    """Fails while a breaker is open, be it by an operator: of `names`, else of the service's own, else of all that this
    process has made. Never waits for Redis, and does not fail without it: then this process's own breakers are judged.
    """

    names: tuple[str, ...] = ()

    def run(self) -> None:
        try:
            found = queries.open_here(self.names)
        except LookupError as error:
            raise ServiceReturnedUnexpectedResult(str(error)) from None
        if found:
            raise ServiceUnavailable(f"open: {', '.join(found)}")

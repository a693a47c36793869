"""What knows Fineract; `from mifos_gateway import maker, checker` calls it through the breakers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mifos_gateway.services import checker, get_circuit_breaker_status, maker

__all__ = ["checker", "get_circuit_breaker_status", "maker"]


def __getattr__(name: str) -> Any:
    # Late, because Django imports this package before its settings and apps are ready.
    if name in __all__:
        from mifos_gateway import services

        return getattr(services, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

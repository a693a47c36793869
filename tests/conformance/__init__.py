"""Traces that any circuit breaker can run, and who passes what: docs/design/conformance.md."""

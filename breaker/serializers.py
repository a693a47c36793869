"""The shapes of status and health, for the OpenAPI schema; `queries` renders them."""

import reprlib
from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from breaker import operations

STATES = ("CLOSED", "OPEN", "HALF_OPEN")


class PercentilesSerializer(serializers.Serializer[object]):
    p50 = serializers.FloatField(help_text="Milliseconds, at most 1 % off.")
    p90 = serializers.FloatField()
    p95 = serializers.FloatField()
    p99 = serializers.FloatField()


class StatsSerializer(serializers.Serializer[object]):
    fires = serializers.IntegerField(help_text="All calls of the window: the sum of the next four.")
    successes = serializers.IntegerField()
    failures = serializers.IntegerField()
    rejects = serializers.IntegerField()
    timeouts = serializers.IntegerField()
    fallbacks = serializers.IntegerField()
    latencyMean = serializers.FloatField(help_text="Milliseconds.")
    errorRate = serializers.CharField(help_text="Failures and timeouts of all fires, such as 2.24%.")
    decidingErrorRate = serializers.CharField(help_text="Of the completed calls: what opens the circuit.")
    percentiles = PercentilesSerializer()


class OptionsSerializer(serializers.Serializer[object]):
    timeout = serializers.IntegerField(help_text="Milliseconds, as the other durations here.")
    errorThresholdPercentage = serializers.FloatField()
    resetTimeout = serializers.IntegerField()
    volumeThreshold = serializers.IntegerField()
    rollingCountTimeout = serializers.IntegerField()
    rollingCountBuckets = serializers.IntegerField()


class EntrySerializer(serializers.Serializer[object]):
    enabled = serializers.BooleanField()
    state = serializers.ChoiceField(choices=STATES)
    name = serializers.CharField()
    openedAt = serializers.DateTimeField(required=False, help_text="While open.")
    retryAfter = serializers.IntegerField(required=False, help_text="Seconds, while open.")
    forced = serializers.ChoiceField(choices=("open", "closed"), required=False, help_text="By an operator.")
    stats = StatsSerializer()
    options = OptionsSerializer()


class ActedSerializer(EntrySerializer):
    warning = serializers.CharField(
        required=False, help_text="The act holds, but what should tell of it could not be written: why."
    )


class StatusDataSerializer(serializers.Serializer[object]):
    maker = serializers.DictField(child=EntrySerializer(), help_text="By method.")
    checker = serializers.DictField(child=EntrySerializer())
    custom = serializers.DictField(child=EntrySerializer(), help_text="By name.")
    shared = serializers.BooleanField(help_text="False: Redis is away, and these are one process's numbers.")
    timestamp = serializers.DateTimeField()


class StatusSerializer(serializers.Serializer[object]):
    success = serializers.BooleanField()
    data = StatusDataSerializer()  # type: ignore[assignment]  # a field named like DRF's own property


class MonitorErrorSerializer(serializers.Serializer[object]):
    """Instead of an answer; its `code` is also in the header `X-Gateway-Error`."""

    success = serializers.BooleanField(default=False)
    code = serializers.CharField()
    message = serializers.CharField()
    requestId = serializers.CharField()


class SummarySerializer(serializers.Serializer[object]):
    total = serializers.IntegerField()
    open = serializers.IntegerField()
    closed = serializers.IntegerField()
    halfOpen = serializers.IntegerField()


class DetailSerializer(serializers.Serializer[object]):
    name = serializers.CharField()
    state = serializers.ChoiceField(choices=STATES)
    errorRate = serializers.CharField()


class HealthSerializer(serializers.Serializer[object]):
    success = serializers.BooleanField()
    healthy = serializers.BooleanField()
    summary = SummarySerializer()
    details = DetailSerializer(many=True)
    timestamp = serializers.DateTimeField()


class EventSerializer(serializers.Serializer[object]):
    id = serializers.IntegerField()
    breaker = serializers.CharField()
    kind = serializers.ChoiceField(choices=["transition", "operation"])
    operation = serializers.CharField(allow_null=True, help_text="An act's: open, close, release, …; else null.")
    to = serializers.CharField(help_text="The state shown afterwards.")
    at = serializers.DateTimeField(help_text="By the shared store's clock.")
    actor = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_null=True)
    counts = serializers.DictField(help_text="What the decision saw.")
    durationMs = serializers.IntegerField(allow_null=True, help_text="How long the former state had lasted.")
    alone = serializers.BooleanField(help_text="By one process for itself, while the shared state was away.")

    def get_fields(self) -> dict[str, Any]:
        """With those whose names are taken: by Python, and by a serializer's own field."""
        source = serializers.ChoiceField(choices=["api", "admin", "command", "breaker"])
        return {**super().get_fields(), "from": serializers.CharField(), "source": source}


class PointSerializer(serializers.Serializer[object]):
    at = serializers.DateTimeField()
    fires = serializers.IntegerField()
    successes = serializers.IntegerField()
    failures = serializers.IntegerField()
    timeouts = serializers.IntegerField()
    rejects = serializers.IntegerField()
    fallbacks = serializers.IntegerField()
    latencyMean = serializers.FloatField(help_text="Milliseconds, like the percentiles.")
    p50 = serializers.FloatField()
    p95 = serializers.FloatField()
    p99 = serializers.FloatField()
    secondsOpen = serializers.FloatField()


class ActSerializer(serializers.Serializer[object]):
    """Strict: an act on a breaker must not do something else than what was meant."""

    reason = serializers.CharField(max_length=operations.LONGEST_REASON, help_text="Why, for those who read it later.")
    forSeconds = serializers.FloatField(
        required=False, allow_null=True, help_text="How long it lasts; without it until released."
    )

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            wrong = {
                name: f"{name}={reprlib.repr(data[name])}: unknown; reason and forSeconds are."
                for name in data
                if name not in self.fields
            }
            reason, seconds = data.get("reason"), data.get("forSeconds")
            if reason is not None and not isinstance(reason, str):
                wrong["reason"] = f"{reprlib.repr(reason)}: text is needed."
            if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
                wrong["forSeconds"] = f"{reprlib.repr(seconds)}: a number is needed, such as 600."
            elif seconds is not None and seconds > operations.LONGEST_SECONDS:  # perhaps too large for a float
                wrong["forSeconds"] = f"{reprlib.repr(seconds)}: at most {operations.LONGEST_SECONDS} seconds."
            if wrong:
                raise serializers.ValidationError(wrong)
        return super().to_internal_value(data)

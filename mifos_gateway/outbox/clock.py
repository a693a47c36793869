"""The one clock of leases and times to live: the database's, for hosts' differ."""

from datetime import UTC, datetime

from django.db import connection


def now() -> datetime:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            found: datetime = cursor.fetchone()[0]
            return found
    return datetime.now(UTC)  # a file of this very host

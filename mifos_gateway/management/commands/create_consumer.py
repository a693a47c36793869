"""Make a consumer, or one more token for it."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from mifos_gateway import tokens
from mifos_gateway.models import SCOPES, Consumer
from mifos_gateway.routes import RouteError


class Command(BaseCommand):
    help = (
        "Print a new token for the consumer NAME, alone on the last line; it is not shown again. "
        "With a NAME that exists this is one more token, for rotation. Rights are the consumer's, not the token's: "
        "what flags say (--maker, --checker, --view and --operate together, --allow by itself) replaces them for its "
        "older tokens too, and without flags they stay."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--maker", action="store_true", help="may call MIFOS as maker")
        parser.add_argument("--checker", action="store_true", help="may call MIFOS as checker")
        parser.add_argument("--view", action="store_true", help="may see breakers with their events: who, what and why")
        parser.add_argument("--operate", action="store_true", help="may act on breakers, and see them")
        parser.add_argument(
            "--allow",
            metavar="'METHOD pattern'",
            action="append",
            help="may call these routes only, such as 'GET clients/*'; again for more. '' takes the limit away",
        )
        parser.add_argument("--expires", metavar="DAYS", type=int, help="the token ends after so many days")

    def handle(self, *, name: str, allow: list[str] | None, expires: int | None, **flags: Any) -> None:
        if expires is not None and expires < 1:
            raise CommandError(f"--expires is {expires}; give the days it shall live, 1 or more")
        before = Consumer.objects.filter(name=name).first()
        scopes = {scope: bool(flags[scope]) for scope in SCOPES}
        try:
            token = tokens.issue(
                name,
                **(scopes if any(scopes.values()) else {}),
                allow=None if allow is None else [rule for rule in allow if rule.strip()],
                expires_at=timezone.now() + timedelta(days=expires) if expires else None,
            )
        except RouteError as error:
            raise CommandError(f"--allow: {error}") from None
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self._tell(before, Consumer.objects.get(name=name))
        self.stdout.write(token)

    def _tell(self, before: Consumer | None, now: Consumer) -> None:
        """Notices go to standard error, so that a script can take the token from standard output."""
        if before and before.revoked_at:
            self.stderr.write(f"{now} was revoked and is live again; its older tokens stay revoked.")
        if before and (before.scopes, before.allow) != (now.scopes, now.allow):
            self.stderr.write(
                f"{now} had {tokens.rights(before)} and now has {tokens.rights(now)}, with all of its tokens."
            )
        if not now.scopes:
            self.stderr.write(f"{now} may do nothing: add --maker, --checker, --view or --operate.")

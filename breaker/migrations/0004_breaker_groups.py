from typing import Any

from django.db import migrations

GROUPS = {
    "Breaker viewers": ("view_breaker",),
    "Breaker operators": ("view_breaker", "operate_breaker"),
}
NAMES = {"view_breaker": "Can view circuit breaker", "operate_breaker": "Can operate breaker"}


def make_groups(apps: Any, schema_editor: Any) -> None:
    """Permissions are made after all migrations, so those that the groups need are made here; they are found then."""
    database = schema_editor.connection.alias
    content_types = apps.get_model("contenttypes", "ContentType").objects.using(database)
    permissions = apps.get_model("auth", "Permission").objects.using(database)
    groups = apps.get_model("auth", "Group").objects.using(database)
    breaker, _ = content_types.get_or_create(app_label="breaker", model="breaker")
    for name, codenames in GROUPS.items():
        group, _ = groups.get_or_create(name=name)
        for codename in codenames:
            permission, _ = permissions.get_or_create(
                content_type=breaker, codename=codename, defaults={"name": NAMES[codename]}
            )
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("breaker", "0003_history"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    # Back: the groups stay, for people may be in them.
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]

from typing import Any

from django.db import migrations

GROUPS = {
    "Deferred request viewers": ("view_deferredrequest",),
    "Deferred request operators": ("view_deferredrequest", "operate_deferredrequest"),
}
NAMES = {
    "view_deferredrequest": "Can view deferred request",
    "operate_deferredrequest": "Can retry, cancel and release deferred requests",
}


def make_groups(apps: Any, schema_editor: Any) -> None:
    """Permissions are made after all migrations, so those that the groups need are made here; they are found then."""
    database = schema_editor.connection.alias
    content_types = apps.get_model("contenttypes", "ContentType").objects.using(database)
    permissions = apps.get_model("auth", "Permission").objects.using(database)
    groups = apps.get_model("auth", "Group").objects.using(database)
    deferred, _ = content_types.get_or_create(app_label="mifos_gateway", model="deferredrequest")
    for name, codenames in GROUPS.items():
        group, _ = groups.get_or_create(name=name)
        for codename in codenames:
            permission, _ = permissions.get_or_create(
                content_type=deferred, codename=codename, defaults={"name": NAMES[codename]}
            )
            group.permissions.add(permission)


class Migration(migrations.Migration):
    dependencies = [
        ("mifos_gateway", "0004_deferred"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    # Back: the groups stay, for people may be in them.
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]

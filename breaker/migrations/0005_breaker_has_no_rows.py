from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("breaker", "0004_breaker_groups"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="breaker",
            options={
                "base_manager_name": "objects",
                "default_permissions": ("view",),
                "managed": False,
                "permissions": (("operate_breaker", "Can operate breaker"),),
                "verbose_name": "circuit breaker",
                "verbose_name_plural": "circuit breakers",
            },
        ),
    ]

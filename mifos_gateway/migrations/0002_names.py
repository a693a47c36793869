from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("mifos_gateway", "0001_initial"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="consumer",
            options={"ordering": ("name",), "verbose_name": "consumer", "verbose_name_plural": "consumers"},
        ),
        migrations.AlterModelOptions(
            name="token",
            options={"ordering": ("created_at",), "verbose_name": "token", "verbose_name_plural": "tokens"},
        ),
    ]

from datetime import timedelta

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("mifos_gateway", "0004_deferred"),
    ]

    operations = [
        migrations.AddField(
            model_name="deferredrequest",
            name="key_since",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="deferredrequest",
            name="time_to_live",
            field=models.DurationField(default=timedelta(hours=1), verbose_name="time to live"),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="usedkey",
            name="calls",
            field=models.PositiveIntegerField(default=0),
        ),
    ]

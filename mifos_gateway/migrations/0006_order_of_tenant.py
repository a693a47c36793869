from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("mifos_gateway", "0005_deferred_groups"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="deferredrequest",
            name="one_of_an_order_is_being_sent",
        ),
        migrations.AddConstraint(
            model_name="deferredrequest",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status", "replaying"), models.Q(("order", ""), _negated=True)),
                fields=("namespace", "tenant", "order"),
                name="one_of_an_order_is_being_sent",
            ),
        ),
    ]

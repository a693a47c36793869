"""What this deployment chose: settings, addresses, server and the development run."""

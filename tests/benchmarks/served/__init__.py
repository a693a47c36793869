"""The programs of the gateway's rows: what is served beside it, what it calls, who presses."""

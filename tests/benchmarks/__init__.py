"""What a guarded call costs, beside what others' cost: `make bench`. Never a test: a slow machine fails nothing."""

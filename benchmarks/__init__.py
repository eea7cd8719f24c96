"""Measurements of the product against its budgets: `python -m benchmarks`, or `make bench`. See docs/benchmarks.md."""

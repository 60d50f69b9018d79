"""Measured costs; `python -m benchmarks` runs them from a checkout."""

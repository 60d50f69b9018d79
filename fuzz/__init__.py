"""Fuzzing of every parser of the package."""

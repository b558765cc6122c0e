"""Fuzzing: ``python -m fuzz TARGET``."""

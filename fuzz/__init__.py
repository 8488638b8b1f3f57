"""Fuzzing of every entry that takes bytes or text: ``python -m fuzz [ENTRY …] [--seconds N]``."""

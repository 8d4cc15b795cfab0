"""Damaged input on demand: ``python -m tests.fuzz.decoder --inputs 10000000 --seed 1``."""

"""The experiments of examples/digits.py."""

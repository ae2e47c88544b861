"""Faults planted in the code, to see whether a test finds them."""

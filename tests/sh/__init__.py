"""Tests of the sh tier."""

"""Tests of the lint tier."""

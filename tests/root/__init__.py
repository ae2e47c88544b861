"""Tests of the root tier."""

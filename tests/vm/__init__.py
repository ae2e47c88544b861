"""Tests of the vm tier."""

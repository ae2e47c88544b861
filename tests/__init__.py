"""The tests, by tier: lint, unit, sh, root, vm."""

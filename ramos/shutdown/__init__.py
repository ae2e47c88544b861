"""The way down: the last save, and everything that could stop it."""

"""Package formats: one module each, with the same functions."""

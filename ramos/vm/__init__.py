"""A virtual machine that boots an image."""

"""What the next boot finds on the ESP, and what this one tells."""

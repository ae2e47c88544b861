"""From the upper to a generation, and back."""

"""What the tests have of the outside world: fetched once, checked against a hash, and kept."""

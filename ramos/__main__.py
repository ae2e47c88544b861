"""`python -m ramos` is the `ramos` command."""

from ramos.cli import main

main()

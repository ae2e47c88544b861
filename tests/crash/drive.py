"""The save engine in a process of its own, on a machine of the lab: so that it can be killed.

Run as `python -m tests.crash.drive HOME commit|live|shutdown`. Prints the report as JSON; an error
goes to standard error and decides the exit status, as with `ramos` itself. `live` stops every
process that it can see: only in a process namespace of its own.
"""

import dataclasses
import json
import sys
from pathlib import Path

from ramos.errors import RamosError
from ramos.save.commit import CommitRequest, commit
from tests.crash.machine import Machine


def main(home: Path, action: str) -> int:
    """Do one thing."""
    places = Machine(home).places
    try:
        live, shutdown = action == "live", action == "shutdown"
        report = commit(places, CommitRequest(message=action, live=live, shutdown=shutdown))
    except RamosError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(dataclasses.asdict(report)))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))

"""The way into the `ramos` command: `python -m ramos`, bin/ramos and the launcher of a stick.

Owns: what is said where a Python module is missing. Refuses: everything else. Invariant: nothing
but Python's own modules is needed to say it.
"""

import sys

# Python module -> its package on Debian and on Alpine.
PACKAGES = {
    "click": ("python3-click", "py3-click"),
    "psutil": ("python3-psutil", "py3-psutil"),
    "pyroute2": ("python3-pyroute2", "py3-pyroute2"),
    "pyudev": ("python3-pyudev", "py3-udev"),
    "tomli": ("python3-tomli", "py3-tomli"),
}


def main() -> None:
    """Run the command, or name the package that is missing."""
    try:
        from ramos import cli

        cli.main()
    except ModuleNotFoundError as error:
        packages = PACKAGES.get((error.name or "").partition(".")[0])
        if packages is None:
            raise
        debian, alpine = packages
        sys.exit(
            f"ramos: cannot start: {error.name}: this machine lacks the Python module. "
            f"Install {debian} (on Alpine: {alpine})."
        )


if __name__ == "__main__":
    main()

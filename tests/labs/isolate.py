"""A process namespace for what stops every other process: nothing outside of it can be reached.

Owns: the command line that makes one. Invariant: the command is process 1 there, and the cgroups of
the machine are out of its sight.
"""

HIDE_CGROUPS = "umount -l /sys/fs/cgroup/unified 2>/dev/null; umount -l /sys/fs/cgroup"
OWN_CGROUPS = "mount -t cgroup2 none /sys/fs/cgroup"


def isolate(command: list[str], *, with_cgroups: bool = False) -> list[str]:
    """The command, in namespaces of its own; `with_cgroups` shows it the cgroup that it is in."""
    prepare = OWN_CGROUPS if with_cgroups else HIDE_CGROUPS
    argv = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    argv += ["--cgroup"] if with_cgroups else []
    return [*argv, "sh", "-c", f'{prepare}; exec "$@"', "sh", *command]

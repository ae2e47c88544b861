"""Building without root: the whole build inside a user namespace.

Owns: the question whether there is root or a namespace that is as good, and going there. Refuses:
asking for a password. Invariant: in the namespace, files of "root" are the user's own outside.

A package manager must give files to other users and change into the new tree. A user namespace
with a range of user ids (/etc/subuid) allows both, and can touch nothing that the user could not.
"""

import os
import sys

from ramos.errors import RefusedError
from ramos.linux import run

ENTER = (
    *("unshare", "--user", "--map-root-user", "--map-auto", "--mount", "--pid", "--fork"),
    *("--kill-child", "--mount-proc", "--"),
)


def become_root() -> None:
    """Go on as root: at once for root itself, else by starting this command again, inside."""
    if os.geteuid() == 0:
        return
    done = run.run([*ENTER, "true"], check=False) if not run.find_missing(["unshare"]) else None
    if done is None or done.code != 0:
        raise RefusedError(
            "cannot build",
            "a root tree",
            "it needs root, or a user namespace with a range of user ids: "
            + (done.complaint if done else "there is no unshare"),
            hint="Run it as root; or install uidmap and give your user a line in /etc/subuid and "
            "/etc/subgid (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER).",
        )
    # Nothing was asked or written yet: the command begins again, with the same words.
    os.execvp(ENTER[0], [*ENTER, *sys.orig_argv])

"""What the service manager is told: ready, alive, how things are.

Owns: finding the service manager's ear. Refuses: needing one. Invariant: without systemd nothing
is sent, and nothing fails.
"""

import importlib
import os
from typing import Any


class _NoNotifier:
    def notify(self, state: str) -> None:
        """Nobody listens."""


def make_notifier() -> Any:
    """Only systemd has an ear, and Alpine has no package of sdnotify."""
    if "NOTIFY_SOCKET" not in os.environ:
        return _NoNotifier()
    return importlib.import_module("sdnotify").SystemdNotifier()

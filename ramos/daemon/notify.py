"""What the service manager is told: ready, alive, how things are.

Owns: finding the service manager's ear, and taking back the word for whoever logs in. Refuses:
needing a service manager. Invariant: without systemd nothing is sent, and nothing fails.
"""

import importlib
import os
from typing import Any

from ramos.layout import RUN_DIR

# Left by services/keep-ramosd while ramosd does not stay up.
FAILED_FILE = RUN_DIR / "ramosd.failed"


class _NoNotifier:
    def notify(self, state: str) -> None:
        """Nobody listens."""


def make_notifier() -> Any:
    """Only systemd has an ear, and Alpine has no package of sdnotify."""
    if "NOTIFY_SOCKET" not in os.environ:
        return _NoNotifier()
    return importlib.import_module("sdnotify").SystemdNotifier()


def tell_ready(notifier: Any) -> None:
    """It is up."""
    notifier.notify("READY=1")
    FAILED_FILE.unlink(missing_ok=True)

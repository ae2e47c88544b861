"""The last boot, put together from init's log and the service manager's timings.

Owns: where these are found. Refuses: drawing (`bootchart` does). Invariant: a service manager that
tells nothing costs its part of the chart, not the chart.
"""

import contextlib
import os
import time
from pathlib import Path

from ramos import layout
from ramos.boot import bootchart
from ramos.boot.bootchart import Row
from ramos.errors import RamosError
from ramos.linux import run

OPENRC_STARTED = Path("/run/openrc/started")
SYSTEMD_MARK = Path("/run/systemd/system")
SHOWN_SERVICES = 20
LEAST_SECONDS = 0.05
PROPERTIES = "Id,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic"


def list_rows(boot_log: Path = layout.BOOT_LOG) -> list[Row]:
    """Kernel, steps of init, and the services that took longest."""
    try:
        text = boot_log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    rows = bootchart.chart_init(bootchart.parse_steps(text))
    end = rows[-1].end_seconds if rows else 0.0
    services = [
        row for row in _list_services(end) if row.end_seconds - row.start_seconds >= LEAST_SECONDS
    ]
    return [*rows, *bootchart.pick_longest(services, SHOWN_SERVICES)]


def _list_services(begin_seconds: float) -> list[Row]:
    if SYSTEMD_MARK.exists():
        with contextlib.suppress(RamosError):
            argv = ["systemctl", "show", "*.service", "--property", PROPERTIES]
            return bootchart.chart_systemd(run.run(argv).text)
    if OPENRC_STARTED.is_dir():
        booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        started = {p.name: os.lstat(p).st_ctime - booted for p in OPENRC_STARTED.iterdir()}
        return bootchart.chart_openrc(started, begin_seconds)
    return []

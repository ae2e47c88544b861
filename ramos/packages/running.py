"""The running system as the package engine's site, and whether it has a way to the network.

Owns: finding the stick, the base and the ESP of this system. Refuses: working without the stick
that the system was started from. Invariant: asking for a route sends nothing.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pyroute2

from ramos.boot import esp
from ramos.boot.kernels import read_running_kernel
from ramos.booted import read_boot
from ramos.errors import RefusedError
from ramos.layout import Places
from ramos.packages import alpine, debian
from ramos.packages.recipes import detect_base
from ramos.packages.site import Manager, Site
from ramos.stick.check import check_stick

MANAGERS: dict[str, Manager] = {"alpine": alpine, "debian": debian}
# In the upper, which is compressed RAM; var/tmp is never saved.
WORK_DIR = Path("/var/tmp/ramos-packages")


def find_site(places: Places | None = None) -> Site:
    """This system and its stick."""
    here = places or Places()
    boot = read_boot(here)
    check_stick(here, boot)

    def open_esp(writable: bool) -> AbstractContextManager[Path]:
        return esp.mount_esp(boot, writable=writable)

    return Site(
        manager=MANAGERS[detect_base(here.root)],
        persist=here.persist,
        work=WORK_DIR,
        running=read_running_kernel(),
        open_esp=open_esp,
        root=here.root,
        lock_file=here.lock_file,
    )


def require_route() -> None:
    """Refuse plainly when there is no default route: nothing is waited for."""
    with contextlib.closing(pyroute2.IPRoute()) as netlink:
        routes = list(_list_default_routes(netlink))
    if not routes:
        raise RefusedError(
            "cannot reach any mirror",
            "the network",
            "this system is offline (it has no default route)",
            hint="Connect first; 'ip route' shows a line with 'default' then. "
            "A mirror on a disk needs no network: --offline skips this check.",
        )


def _list_default_routes(netlink: pyroute2.IPRoute) -> Iterator[object]:
    """Default routes of both families; an unreachable one (type 7) is none."""
    for family in (2, 10):
        for route in netlink.get_default_routes(family=family):
            if route.get("type") == 1:
                yield route

"""The base "debian": a root tree made by mmdebstrap from the machine's own mirrors.

Owns: which packages make a Debian image, where they come from, and what is set up the Debian way.
Refuses: sources of the machine that are not Debian's (other vendors' repositories), and an
initramfs made by Debian's own tools. Invariant: a tree has its final name only when it is whole.

`resolve`, `bootstrap` and `configure` are what every base has (see `alpine`).
"""

import hashlib
import shlex
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ramos import run
from ramos.errors import RamosError
from ramos.image import aptsources
from ramos.image.plan import Plan, Source, read_package_list
from ramos.image.settings import replace_link, write_file

# Raise this when the commands below change what is in a tree.
DEFAULT_INIT = "systemd"
RECIPE_VERSION = 1
TOOLS = ("mmdebstrap", "apt-get", "dpkg-deb")
TIMEOUT_SECONDS = 15
OPTION_NAMES = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
DPKG_OPTIONS = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/bug/*",
    "force-unsafe-io",
)
STAND_IN_CONTROL = """Package: ramos-initramfs
Version: 1
Architecture: all
Maintainer: RAMOS <root@localhost>
Provides: linux-initramfs-tool
Description: stands in for an initramfs generator: RAMOS makes its own
"""
NO_MANUALS = "path-exclude=/usr/share/man/*"
NETWORK = """\
[Match]
Name=en* eth* wl*

[Network]
DHCP=yes
"""
OPENRC_MAGIC = b"#!/sbin/openrc-run"
INITTAB = """\
id:2:initdefault:
si::sysinit:/sbin/openrc sysinit
rc::bootwait:/sbin/openrc boot
l0:0:wait:/sbin/openrc shutdown
l0s:0:wait:/sbin/halt -d -f -p
l1:1:wait:/sbin/openrc single
l2:2345:wait:/sbin/openrc default
l6:6:wait:/sbin/openrc reboot
l6r:6:wait:/sbin/reboot -d -f
ca:12345:ctrlaltdel:/sbin/shutdown -r now
1:2345:respawn:/sbin/getty --noclear 38400 tty1 linux
2:2345:respawn:/sbin/getty 38400 tty2 linux
S0:2345:respawn:/sbin/getty --keep-baud 115200,9600 ttyS0 vt220
"""
SULOGIN = "[Service]\nEnvironment=SYSTEMD_SULOGIN_FORCE=1\n"
# Units of Debian that would cost time, memory or writes and do nothing for a system in RAM.
MASKED_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "man-db.timer",
    "systemd-pstore.service",
    "systemd-networkd-wait-online.service",
    "ldconfig.service",
    "systemd-update-done.service",
    "systemd-journal-flush.service",
)


def list_packages(plan: Plan) -> tuple[str, ...]:
    """Every package that is asked for; dependencies come on their own."""
    sections = ["minimal", plan.init]
    if plan.profile == "rescue":
        sections.append("rescue")
    if plan.firmware_choice != "none":
        sections.append(f"firmware-{plan.firmware_choice}")
    names = read_package_list("debian", tuple(sections))
    return tuple(dict.fromkeys((*names, *plan.packages)))


def probe(plan: Plan) -> str:
    """Why this base cannot be had now; empty when it can."""
    source = resolve(plan)
    return "" if source.state else f"{source.mirror} does not answer"


def resolve(plan: Plan) -> Source:
    """Find the release on the mirror, and how the mirror stands now."""
    lines = aptsources.choose_sources(plan)
    states = [_read_state(line) for line in lines]
    state = hashlib.sha256(b"".join(states)).hexdigest() if all(states) else ""
    release = lines[0].suite
    config = "\n".join(line.text for line in lines)
    return Source(release, lines[0].uri, config, state)


def _read_state(line: aptsources.SourceLine) -> bytes:
    """The signed index of one suite; empty when the mirror does not answer. apt checks it later."""
    url = f"{line.uri.rstrip('/')}/dists/{line.suite}/InRelease"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            data: bytes = answer.read()
            return data
    except urllib.error.HTTPError as error:
        if error.code in (403, 404, 410):
            raise RamosError(
                "unknown release",
                line.suite,
                f"{line.uri} does not have it ({error.code})",
                "Nothing was built",
                "Give --release with a Debian release name, such as bookworm.",
            ) from error
        return b""
    except (OSError, ValueError):
        return b""


def bootstrap(
    plan: Plan, source: Source, tree: Path, downloads: Path, on_line: Callable[[str], None]
) -> None:
    """Make the root tree at `tree`; packages are kept in `downloads` and taken from there."""
    with tempfile.TemporaryDirectory(prefix="stand-in-", dir=downloads) as directory:
        stand_in = make_stand_in(Path(directory))
        run.run_watched(plan_argv(plan, source, tree, downloads, stand_in), on_line)


def make_stand_in(directory: Path) -> Path:
    """A package that says: this system makes its initramfs itself.

    Debian's kernels depend on one of its initramfs generators. Theirs would run at each kernel
    installation, for minutes on a stick, and make an initramfs that knows nothing of RAMOS.
    """
    control = directory / "package" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(STAND_IN_CONTROL, encoding="ascii")
    package = directory / "ramos-initramfs.deb"
    run.run(["dpkg-deb", "--build", "--root-owner-group", control.parent.parent, package])
    return package


def plan_argv(plan: Plan, source: Source, tree: Path, downloads: Path, stand_in: Path) -> list[str]:
    """The mmdebstrap command."""
    debs = shlex.quote(str(downloads))
    archives = '"$1"/var/cache/apt/archives'
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--architectures=amd64",
        "--include=" + ",".join(list_packages(plan)),
        *(f"--dpkgopt={option}" for option in list_excludes(plan)),
        *(f"--aptopt={option}" for option in read_apt_options()),
        # Keep what was fetched, and fetch only what is not there yet.
        "--skip=download/empty,essential/unlink",
        f"--setup-hook=mkdir -p {archives} && find {debs} -name '*.deb' -maxdepth 1"
        f" -exec cp -alft {archives} {{}} +",
        f'--essential-hook=dpkg --root="$1" --install {shlex.quote(str(stand_in))}',
        f"--customize-hook=find {archives} -maxdepth 1 -name '*.deb' -exec cp -alft {debs} {{}} +",
        source.release,
        str(tree),
        *source.config.splitlines(),
    ]


def read_apt_options() -> list[str]:
    """How this machine's apt reaches its mirrors (proxies and the like): the image's must too."""
    dump = run.run(["apt-config", "dump"]).text
    return [
        line.rstrip(";").replace(' "', ' "', 1)
        for line in dump.splitlines()
        if line.startswith(OPTION_NAMES) and not line.endswith('"";')
    ]


def configure(plan: Plan, tree: Path) -> None:
    """Set up what only Debian has; `settings` does what every base shares."""
    for folder in ("etc/apt/apt.conf.d", "etc/dpkg/dpkg.cfg.d"):
        # What served the build need not serve the stick: it may sit behind another proxy.
        (tree / folder / "99mmdebstrap").unlink(missing_ok=True)
    write_file(tree / "etc/dpkg/dpkg.cfg.d/ramos", render_dpkg_config(plan))
    write_file(tree / "etc/default/locale", "LANG=C.UTF-8\n")
    if plan.init == "systemd":
        _configure_systemd(plan, tree)
    else:
        _configure_openrc(tree)


def render_dpkg_config(plan: Plan) -> str:
    """dpkg goes on leaving out what the build left out."""
    options = "".join(f"{option}\n" for option in list_excludes(plan))
    return (
        f"# RAMOS: what would only take space. Remove lines, then reinstall, to have it.\n{options}"
    )


def list_excludes(plan: Plan) -> tuple[str, ...]:
    """What dpkg does not unpack."""
    return (*DPKG_OPTIONS, *((NO_MANUALS,) if plan.profile == "minimal" else ()))


def _configure_systemd(plan: Plan, tree: Path) -> None:
    units = tree / "etc/systemd/system"
    for unit in MASKED_UNITS:
        replace_link(units / unit, "/dev/null")
        for wants in units.glob(f"*.wants/{unit}"):
            wants.unlink()
    write_file(tree / "etc/systemd/journald.conf.d/ramos.conf", "[Journal]\nStorage=volatile\n")
    write_file(tree / "etc/systemd/network/80-ramos.network", NETWORK)
    replace_link(
        units / "multi-user.target.wants/systemd-networkd.service",
        "/lib/systemd/system/systemd-networkd.service",
    )
    if not plan.password_hash:
        # Root is locked: without this, a boot that fails ends before a prompt that nobody passes.
        for unit in ("emergency", "rescue"):
            write_file(units / f"{unit}.service.d/ramos.conf", SULOGIN)


def _configure_openrc(tree: Path) -> None:
    """Only native services: each LSB script costs a slow machine seconds (payload brings ours)."""
    for script in (tree / "etc/init.d").iterdir():
        if script.is_file() and not script.read_bytes().startswith(OPENRC_MAGIC):
            script.unlink()
    for link in (tree / "etc/runlevels").glob("*/*"):
        link.unlink()
    for runlevel, service in (("sysinit", "cgroups"), ("default", "local")):
        if (tree / "etc/init.d" / service).exists():
            replace_link(tree / "etc/runlevels" / runlevel / service, f"/etc/init.d/{service}")
    write_file(tree / "etc/inittab", INITTAB)

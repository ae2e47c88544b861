"""What is set up the Debian way in a fresh root tree.

Owns: dpkg's choice of files, the units that do not run, the console keymap, OpenRC's inittab.
Refuses: what every base shares (`settings` does that). Invariant: files are replaced, never edited
in place: the tree shares them with the cache.
"""

import gzip
from pathlib import Path

from ramos.image.common_setup import list_serial, make_directories, replace_link, write_file
from ramos.image.plan import Plan, unknown_keymap
from ramos.linux import run
from ramos.packages.debian_settings import render_settings
from ramos.packages.recipes import load_recipes

APT_WRAPPER = "/usr/share/ramos/apk-triggers/debian/apt"
DPKG_OPTIONS = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/bug/*",
    "force-unsafe-io",
)
NO_MANUALS = "path-exclude=/usr/share/man/*"
NETWORK = """\
[Match]
Name=en* eth* wl*

[Network]
DHCP=yes
"""
OPENRC_CONFIG = """
# RAMOS: one hierarchy of control groups, as the save engine wants it.
rc_cgroup_mode="unified"
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
1:2345:respawn:/sbin/getty{autologin} --noclear 38400 tty1 linux
2:2345:respawn:/sbin/getty 38400 tty2 linux
S0:2345:respawn:/sbin/getty{autologin} --keep-baud 115200,9600 ttyS0 vt220
"""
# Debian's own lines for these terminals, with a login that asks nothing.
AUTOLOGIN = """\
[Service]
ExecStart=
ExecStart=-/sbin/agetty -o '-p -f -- \\\\u' --autologin {user} {options} - $TERM
"""
# Names of neighbours by LLMNR and mDNS: resolved would listen on every network for them.
RESOLVED = "[Resolve]\nLLMNR=no\nMulticastDNS=no\n"
# What only comes along (with nfs-common) listens when something needs it, and not from the start.
ON_DEMAND_UNITS = {"rpcbind": ("rpcbind.socket", "rpcbind.service")}
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
    "systemd-sysusers.service",
    "systemd-binfmt.service",
    "keyboard-setup.service",
    "console-setup.service",
)


def configure(plan: Plan, tree: Path) -> None:
    """Set up what only Debian has; `settings` does what every base shares."""
    for folder in ("etc/apt/apt.conf.d", "etc/dpkg/dpkg.cfg.d"):
        # What served the build need not serve the stick: it may sit behind another proxy.
        (tree / folder / "99mmdebstrap").unlink(missing_ok=True)
    write_file(tree / "etc/dpkg/dpkg.cfg.d/ramos", render_dpkg_config(plan))
    write_file(tree / "etc/default/locale", "LANG=C.UTF-8\n")
    for name, text in render_settings(load_recipes(tree / "etc/ramos/recipes.d").usable).items():
        write_file(tree / name, text)
    for name in ("apt", "apt-get"):
        # /usr/local/sbin stands first in the path of root and sudo; /usr/bin keeps the real ones.
        replace_link(tree / "usr/local/sbin" / name, APT_WRAPPER)
    if plan.keymap != "us":
        set_keymap(tree, plan.keymap)
    if plan.init == "systemd":
        _configure_systemd(plan, tree)
    else:
        _configure_openrc(plan, tree)


def render_dpkg_config(plan: Plan) -> str:
    """dpkg goes on leaving out what the build left out."""
    options = "".join(f"{option}\n" for option in list_excludes(plan))
    return (
        f"# RAMOS: what would only take space. Remove lines, then reinstall, to have it.\n{options}"
    )


def list_excludes(plan: Plan) -> tuple[str, ...]:
    """What dpkg does not unpack."""
    return (*DPKG_OPTIONS, *((NO_MANUALS,) if plan.profile == "minimal" else ()))


def set_keymap(tree: Path, keymap: str) -> None:
    """A keymap for the console, made of the X layout; the initramfs loads it at each boot."""
    layout, _, variant = keymap.partition("-")
    symbols = tree / "usr/share/X11/xkb/symbols" / layout
    end = '"' if variant else ""
    # ckbcomp takes a variant that does not exist for none at all.
    text = symbols.read_text(encoding="utf-8") if symbols.is_file() else ""
    known = f'xkb_symbols "{variant}{end}' in text
    argv = ["chroot", str(tree), "/usr/bin/ckbcomp", "-layout", layout, "-variant", variant]
    keys = run.run(argv).stdout if known else b""
    if b"keycode" not in keys:
        raise unknown_keymap(keymap, "there is no such layout in /usr/share/X11/xkb")
    binary = run.run(["chroot", tree, "/bin/loadkeys", "-u", "-b", "-"], stdin=keys)
    write_file(tree / f"etc/keymap/{keymap}.bmap.gz", gzip.compress(binary.stdout, mtime=0))
    text = f'XKBMODEL="pc105"\nXKBLAYOUT="{layout}"\nXKBVARIANT="{variant}"\n'
    write_file(tree / "etc/default/keyboard", text)


def _configure_systemd(plan: Plan, tree: Path) -> None:
    units = tree / "etc/systemd/system"
    for unit in MASKED_UNITS:
        replace_link(units / unit, "/dev/null")
    on_demand = [
        unit
        for package, names in ON_DEMAND_UNITS.items()
        for unit in names
        if package not in plan.packages
    ]
    for link in list(units.glob("*.wants/*")):
        # A pattern without a star passes over links whose targets are not on this machine.
        if link.name in {*MASKED_UNITS, *on_demand}:
            link.unlink()
    write_file(tree / "etc/systemd/resolved.conf.d/ramos.conf", RESOLVED)
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
    if plan.logs_in:
        _log_in_by_itself(plan, units)


def _log_in_by_itself(plan: Plan, units: Path) -> None:
    """On the first screen, and on the serial consoles that the image uses."""
    gettys = {"getty@tty1": "--noclear"}
    for port, _speed in list_serial(plan.consoles):
        gettys[f"serial-getty@{port}"] = "--keep-baud 115200,57600,38400,9600"
    for unit, options in gettys.items():
        text = AUTOLOGIN.format(user=plan.user, options=options)
        write_file(units / f"{unit}.service.d/ramos.conf", text)


def _configure_openrc(plan: Plan, tree: Path) -> None:
    """Only native services: each LSB script costs a slow machine seconds (payload brings ours)."""
    for script in (tree / "etc/init.d").iterdir():
        if script.is_file() and not script.read_bytes().startswith(OPENRC_MAGIC):
            script.unlink()
    for link in (tree / "etc/runlevels").glob("*/*"):
        link.unlink()
    for runlevel, service in (("sysinit", "cgroups"), ("default", "local")):
        if (tree / "etc/init.d" / service).exists():
            replace_link(tree / "etc/runlevels" / runlevel / service, f"/etc/init.d/{service}")
    autologin = f" --autologin {plan.user}" if plan.logs_in else ""
    write_file(tree / "etc/inittab", INITTAB.format(autologin=autologin))
    make_directories(tree / "etc/inittab.d")
    config = tree / "etc/rc.conf"
    write_file(config, config.read_text(encoding="utf-8") + OPENRC_CONFIG)

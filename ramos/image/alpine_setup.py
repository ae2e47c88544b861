"""What is set up the Alpine way in a root tree: OpenRC's runlevels, terminals, network, keyboard.

Owns: the edits of /etc that only Alpine needs. Refuses: running the tree's programs. Invariant: a
service is switched on only when the tree has it, so that a smaller choice of packages still boots.
"""

from pathlib import Path

from ramos.image.common_setup import list_serial, replace_link, write_file
from ramos.image.plan import Plan, unknown_keymap
from ramos.packages.alpine import SPECIAL_FILE
from ramos.packages.recipe import render_special
from ramos.packages.recipes import load_recipes

HOOKS = "/usr/share/ramos/initramfs-hooks"
APK_WRAPPER = "/usr/share/ramos/apk-triggers/alpine/apk"
APK_HOOK = "/usr/share/ramos/apk-triggers/alpine/commit-hook"
MKINITFS_CONF = f"""\
# RAMOS builds the initramfs itself (`ramos initramfs`), and puts it beside its kernel on the ESP:
# the trigger of mkinitfs would build another one into the RAM. Run by hand, mkinitfs makes the
# same initramfs as RAMOS does: with its init, and with what its features name.
disable_trigger=yes
init="{HOOKS}/mkinitfs/init"
features_dirs="{HOOKS}/mkinitfs/features.d $features_dirs"
features="ramos"
"""
UPDATE_GRUB_CONF = (
    "# The boot menu of a RAMOS stick is on its ESP, and made by `ramos`.\ndisable_trigger=1\n"
)
# Not loadkmap: the initramfs loads the keyboard's layout, and OpenRC's service fails to stop.
RUNLEVELS = {
    "sysinit": ("cgroups", "devfs", "dmesg", "udev", "udev-trigger"),
    "boot": (
        *("bootmisc", "hostname", "hwclock", "modules", "networking", "seedrng", "sysctl"),
        "syslog",
    ),
    "default": ("acpid", "ntpd", "udev-postmount"),
    "shutdown": ("killprocs", "mount-ro"),
}
INITTAB = """\
# Written by RAMOS; busybox-inittab(5) is short: id::action:process.
::sysinit:/sbin/openrc sysinit
::sysinit:/sbin/openrc boot
::wait:/sbin/openrc default
{terminals}
::ctrlaltdel:/sbin/reboot
::shutdown:/sbin/openrc shutdown
"""
INTERFACES = """\
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet dhcp
"""
# OpenRC's shell reads these before its services of the same name; one that ends with an error stops
# its service from starting.
SERVICE_SETTINGS = {
    # Used without quotes there: a pattern that matches files would become their names.
    "localmount": """\
# RAMOS: everything stays mounted until the save is done; mount-ro makes it all read-only then.
no_umounts="/.+"
""",
    "killprocs": """\
# RAMOS: what switches the machine off if the rest of the way down hangs is spared.
killall5_opts="$(sed 's/^/-o /' /run/ramos/deadline.pid 2>/dev/null || :)"
""",
}
AUTOLOGIN_FILE = "etc/ramos/autologin"
# BusyBox getty runs it in place of login; a user who is gone leaves the question who it is.
AUTOLOGIN = """\
#!/bin/sh
# RAMOS: the first consoles of /etc/inittab log {user} in by themselves.
id {user} >/dev/null 2>&1 || exec /bin/login
echo "$(hostname) login: {user} (automatic login)"
exec /bin/login -f {user}
"""


def configure(plan: Plan, tree: Path) -> None:
    """Set up what only Alpine has; `settings` does what every base shares."""
    write_file(tree / "etc/inittab", render_inittab(plan))
    if plan.logs_in:
        write_file(tree / AUTOLOGIN_FILE, AUTOLOGIN.format(user=plan.user), 0o755)
    write_file(tree / "etc/network/interfaces", INTERFACES)
    for service, text in SERVICE_SETTINGS.items():
        write_file(tree / "etc/conf.d" / service, text)
    set_keymap(tree, plan.keymap)
    # /usr/local/sbin stands first in the path; /sbin/apk stays what it is, and asks the hook.
    replace_link(tree / "usr/local/sbin/apk", APK_WRAPPER)
    replace_link(tree / "etc/apk/commit_hooks.d/ramos", APK_HOOK)
    recipes = load_recipes(tree / "etc/ramos/recipes.d").usable
    write_file(tree / SPECIAL_FILE, render_special(recipes, "alpine"))
    for runlevel, services in RUNLEVELS.items():
        for service in services:
            if (tree / "etc/init.d" / service).exists():
                link = tree / "etc/runlevels" / runlevel / service
                replace_link(link, f"/etc/init.d/{service}")


def render_inittab(plan: Plan) -> str:
    """init's table: a login on the screens, and on each serial console that has a port.

    getty on a port that is not there would end and be started again, once a second, for ever.
    """
    getty = f"/sbin/getty -n -l /{AUTOLOGIN_FILE}" if plan.logs_in else "/sbin/getty"
    terminals = [f"tty1::respawn:{getty} 38400 tty1"]
    terminals += [f"tty{number}::respawn:/sbin/getty 38400 tty{number}" for number in (2, 3)]
    for port, speed in list_serial(plan.consoles):
        login = f"exec {getty} -L {speed} {port} vt100"
        command = f"stty -F /dev/{port} >/dev/null 2>&1 && {login}; exec sleep 2147483647"
        terminals.append(f"{port}::respawn:/bin/sh -c '{command}'")
    return INITTAB.format(terminals="\n".join(terminals))


def set_keymap(tree: Path, keymap: str) -> None:
    """The keyboard layout, in the form that BusyBox loads."""
    maps = sorted((tree / "usr/share/bkeymaps").glob(f"*/{keymap}.bmap.gz"))
    if maps:
        place = f"etc/keymap/{keymap}.bmap.gz"
        write_file(tree / place, maps[0].read_bytes())
        write_file(tree / "etc/conf.d/loadkmap", f"KEYMAP=/{place}\n")
    elif keymap != "us":
        raise unknown_keymap(keymap, "the image has no such file in /usr/share/bkeymaps")

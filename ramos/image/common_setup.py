"""What every system is set up with, whatever its base: names, the user, the keyboard, the time.

Owns: the edits of /etc in a root tree that are the same for all bases. Refuses: running the
tree's programs. Invariant: a file is replaced, never changed in place: trees share their files
with the cache by hard links.
"""

import os
import re
from pathlib import Path

from ramos import layout
from ramos.image.plan import NoImageError, Plan, unknown_timezone

USER_ID = 1000
DIRECTORY_MODE = 0o755
SHELLS = ("/bin/bash", "/bin/sh")
SERIAL = re.compile(r"(tty[A-Z]+\d+)(?:,(\d+).*)?")


def write_file(path: Path, text: str | bytes, mode: int = 0o644) -> None:
    """Replace a file as a whole, with its parents as needed."""
    make_directories(path.parent)
    data = text.encode("utf-8") if isinstance(text, str) else text
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    temporary.chmod(mode)
    temporary.rename(path)


def make_directories(path: Path) -> None:
    """Make a directory and its parents, with a mode that does not depend on the umask."""
    if path.is_dir():
        return
    make_directories(path.parent)
    path.mkdir()
    path.chmod(DIRECTORY_MODE)


def replace_link(path: Path, target: str) -> None:
    """Put a symbolic link where there may be something else."""
    make_directories(path.parent)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def apply_settings(plan: Plan, tree: Path) -> None:
    """Everything of this module."""
    write_file(tree / "etc/hostname", f"{plan.hostname}\n")
    hosts = f"127.0.0.1\tlocalhost\n127.0.1.1\t{plan.hostname}\n::1\tlocalhost ip6-localhost\n"
    write_file(tree / "etc/hosts", hosts)
    write_file(tree / "etc/fstab", "# RAMOS mounts / and /persist itself.\n")
    write_file(tree / "etc/issue", render_issue(plan))
    write_file(tree / "etc/motd", "")
    write_file(tree / "etc/machine-id", "")
    greeting = layout.find_data("services") / "login/ramos.sh"
    write_file(tree / "etc/profile.d/ramos.sh", greeting.read_bytes())
    for name in ("persist", "media", "mnt"):
        make_directories(tree / name)
    set_timezone(tree, plan.timezone)
    add_user(tree, plan.user, plan.password_hash)


def render_issue(plan: Plan) -> str:
    """What stands above the login prompt: what this is, and who to log in as."""
    entry = "with your password" if plan.password_hash else "no password is asked"
    return f"RAMOS on \\n (\\l)\nLog in as: {plan.user} ({entry})\n\n"


def list_serial(consoles: tuple[str, ...]) -> list[tuple[str, str]]:
    """The serial lines among the consoles of a plan: port and speed."""
    found = (SERIAL.fullmatch(console) for console in consoles)
    return [(match[1], match[2] or "115200") for match in found if match]


def set_timezone(tree: Path, name: str) -> None:
    """Point /etc/localtime to a zone that the tree knows."""
    zone = tree / "usr/share/zoneinfo" / name
    if not zone.is_file():
        if name == "UTC":
            return
        raise unknown_timezone(name, "the image has no such file in /usr/share/zoneinfo")
    replace_link(tree / "etc/localtime", f"/usr/share/zoneinfo/{name}")
    write_file(tree / "etc/timezone", f"{name}\n")


def add_user(tree: Path, name: str, password_hash: str) -> None:
    """The one user of a stick, who may become root; root itself is locked."""
    shell = next((path for path in SHELLS if (tree / path.lstrip("/")).exists()), "/bin/sh")
    home = tree / "home" / name
    _add_line(tree / "etc/passwd", name, f"{name}:x:{USER_ID}:{USER_ID}::/home/{name}:{shell}")
    _add_line(tree / "etc/group", name, f"{name}:x:{USER_ID}:")
    # An empty hash lets the user in without a password, at the console only.
    _add_line(tree / "etc/shadow", name, f"{name}:{password_hash}::0:99999:7:::")
    _lock_root(tree / "etc/shadow")
    _join_groups(tree / "etc/group", name)
    _allow_root(tree, name, bool(password_hash))
    _make_home(tree, home)


def _replace_text(path: Path, text: str) -> None:
    """Replace a file and keep its owner and mode."""
    info = path.stat()
    write_file(path, text, info.st_mode & 0o7777)
    os.chown(path, info.st_uid, info.st_gid)


def _add_line(path: Path, name: str, line: str) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    if any(old.partition(":")[0] == name for old in lines):
        raise NoImageError(
            "bad user name",
            name,
            f"/{path.parent.name}/{path.name} of the image has it already",
            hint="Take another name with --user.",
        )
    _replace_text(path, "\n".join([*lines, line]) + "\n")


def _lock_root(shadow: Path) -> None:
    lines = [
        "root:!:" + line.split(":", 2)[2] if line.startswith("root:") else line
        for line in shadow.read_text(encoding="utf-8").splitlines()
    ]
    _replace_text(shadow, "\n".join(lines) + "\n")


def _join_groups(path: Path, name: str) -> None:
    """The groups that let a person at the console use the machine."""
    wanted = {"sudo", "wheel", "audio", "video", "cdrom", "plugdev", "netdev", "dialout", "adm"}
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        group, _, rest = line.partition(":")
        if group in wanted:
            members = rest.rsplit(":", 1)[1]
            line = f"{line},{name}" if members else f"{line}{name}"
        lines.append(line)
    _replace_text(path, "\n".join(lines) + "\n")


def _allow_root(tree: Path, name: str, has_password: bool) -> None:
    """sudo or doas, whichever the base brings; no password is asked of who has none."""
    if (tree / "etc/sudoers.d").is_dir():
        ask = "" if has_password else "NOPASSWD: "
        write_file(tree / "etc/sudoers.d/ramos", f"{name} ALL=(ALL:ALL) {ask}ALL\n", 0o440)
    if (tree / "usr/bin/doas").exists():
        ask = "persist" if has_password else "nopass"
        write_file(tree / "etc/doas.d/ramos.conf", f"permit {ask} {name} as root\n", 0o640)


def _make_home(tree: Path, home: Path) -> None:
    make_directories(home)
    home.chmod(0o750)
    skeleton = tree / "etc/skel"
    for source in sorted(skeleton.iterdir()) if skeleton.is_dir() else []:
        if source.is_file() and not source.is_symlink():
            write_file(home / source.name, source.read_bytes())
            os.chown(home / source.name, USER_ID, USER_ID)
    os.chown(home, USER_ID, USER_ID)

"""Running the verbs of the initramfs under dash, BusyBox ash and Alpine's own, on a fake machine.

A fake machine is a folder with proc, sys, dev, persist and run in it. The verbs are sourced as they
are; then the places are moved into the folder, and what would touch the real machine (mount,
modprobe, the shell of last resort ...) is replaced by functions that write down what was asked.
"""

import hashlib
import shlex
import struct
import subprocess
from collections import UserDict
from dataclasses import dataclass, field
from pathlib import Path

from ramos.store.generation import Generation, Kind, StoredFile, render
from tests.labs import alpine_root

REPOSITORY = Path(__file__).resolve().parents[2]
HOOKS = REPOSITORY / "initramfs-hooks"


class Shells(UserDict[str, list[str]]):
    """The shells by name; Alpine's own is fetched by the test that asks for it first."""

    def __getitem__(self, name: str) -> list[str]:
        return super().__getitem__(name) or [str(alpine_root.provide_shell())]


SHELLS = Shells(dash=["dash"], ash=["busybox", "sh"], alpine=[])
KERNEL = "6.1.0-1-amd64"
MIB = 1 << 20
PERSIST_UUID = "0a1b2c3d-0e0f-4a4b-8c8d-00aa11bb22cc"

FAKES = """
mount() { fake_mount "$@"; }
umount() { echo "umount $*" >>"$R/calls"; }
modprobe() { echo "modprobe $*" >>"$R/calls"; }
sleep() { echo "sleep $*" >>"$R/calls"; tick; }
setsid() { :; }
reboot() { echo "reboot $*" >>"$R/calls"; exit 4; }
loadkmap() { cat >/dev/null; }
cryptsetup() { fake_cryptsetup "$@"; }
fsverity() { fake_fsverity "$@"; }
e2fsck() { fake_e2fsck "$@"; }
unsquashfs() { fake_unsquashfs "$@"; }
format_btrfs() { echo "format $*" >>"$R/calls"; [ ! -e "$R/no-btrfs" ]; }
is_block_device() { [ -f "$1" ]; }
drop_caches() { echo drop_caches >>"$R/calls"; }
load_keyboards() { echo load_keyboards >>"$R/calls"; }
chown() { :; }
ask_console() {
    local line
    line=$(head -n 1 "$R/answers")
    sed -i 1d "$R/answers"
    printf '%s\n' "$line" >"$3"
}
open_shell() { echo "$STEP: $1" >"$R/shell"; exit 3; }

# A source that is listed in $R/broken does not mount; one in $R/flaky does at the second try.
fake_mount() {
    local source
    echo "mount $*" >>"$R/calls"
    for source in $(cat "$R/broken" 2>/dev/null); do
        case " $* " in *"$source"*) return 1 ;; esac
    done
    for source in $(cat "$R/flaky" 2>/dev/null); do
        case " $* " in
        *"$source"*)
            [ -e "$R/flaked" ] && return 0
            : >"$R/flaked"
            return 1
            ;;
        esac
    done
}
fake_fsverity() {
    local file
    shift
    for file in "$@"; do
        [ -f "$file.verity" ] || return 1
        echo "sha256:$(cat "$file.verity") $file"
    done
}
fake_e2fsck() {
    echo "e2fsck $*" >>"$R/calls"
    # shellcheck disable=SC2046
    set -- $(cat "$R/e2fsck.$1" 2>/dev/null)
    [ "${2-}" != mends ] || rm -f "$R/broken"
    return "${1:-0}"
}
fake_unsquashfs() {
    echo "unsquashfs $*" >>"$R/calls"
    [ ! -e "$R/no-unpack" ]
}
fake_cryptsetup() {
    local key
    echo "cryptsetup $*" >>"$R/calls"
    [ "$1" = open ] || return 0
    key=$(cat)
    [ "$key" = "$(cat "$R/passphrase")" ]
}
# The clock of the fake machine goes on by a second each time somebody looks again.
tick() {
    local up rest
    read -r up rest <"$R/proc/uptime"
    echo "$((${up%.*} + 1)).00 0" >"$R/proc/uptime"
    [ ! -x "$R/on-tick" ] || "$R/on-tick"
}
"""


def place(lines: str, root: Path, fakes: str = FAKES) -> str:
    """A script with the verbs sourced, all places below `root`, and the fakes in force."""
    script = ["set -u", f"R={shlex.quote(str(root))}", f"LIB={root}/lib"]
    script.append(f". {REPOSITORY}/ramos/layout.env")
    script += [f". {path}" for path in sorted((HOOKS / "lib").glob("*.sh"))]
    script += [f"{name}=$R/{name.lower()}" for name in ("PROC", "SYS", "DEV", "NEWROOT")]
    script += ["MODULES=$R/lib/modules", "RAMOS_RUN_DIR=$R/run/ramos"]
    script += ["RAMOS_PERSIST_DIR=$R/persist", f"CODER={HOOKS}/lib/code.awk"]
    places = "BOOT_FILE:boot BOOT_LOG:boot.log UPPER_DIR:upper STACK_DIR:layers GUARD_PIPE:guard"
    places += " GENERATION_COPY:generation IN_RAM_FILE:in-ram"
    for name in places.split():
        variable, _, below = name.partition(":")
        script.append(f"RAMOS_{variable}=$RAMOS_RUN_DIR/{below}")
    return "\n".join([*script, fakes, lines, ""])


def run_verbs(shell: str, root: Path, lines: str) -> "subprocess.CompletedProcess[str]":
    """Run `lines` after sourcing the verbs."""
    return subprocess.run(
        [*SHELLS[shell], "-c", place(lines, root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )


def move_places(program: Path, **places: Path) -> str:
    """A program's text with some of its places elsewhere: set after its own, before it begins."""
    text, begin, rest = program.read_text().rpartition('main "$@"\n')
    assert text
    assert not rest
    lines = "".join(f"{name}={shlex.quote(str(path))}\n" for name, path in places.items())
    return text + lines + begin


def list_steps() -> str:
    """The steps of a boot, as init has them."""
    lines = (HOOKS / "init").read_text().splitlines()
    return "\n".join(
        ["parse_parameters", "check_memory", *(ln for ln in lines if ln.startswith("run_step"))]
    )


def superblock(uuid: str = PERSIST_UUID, label: str = "ramos-persist", state: int = 1) -> bytes:
    """The first bytes of an ext4 file system."""
    block = bytearray(4096)
    struct.pack_into("<HH", block, 1024 + 56, 0xEF53, state)
    block[1024 + 104 : 1024 + 120] = bytes.fromhex(uuid.replace("-", ""))
    block[1024 + 120 : 1024 + 136] = label.encode().ljust(16, b"\0")
    return bytes(block)


def luks_header(uuid: str, label: str = "", version: int = 2) -> bytes:
    """The first bytes of an encrypted partition."""
    block = bytearray(4096)
    block[:8] = b"LUKS\xba\xbe" + version.to_bytes(2, "big")
    block[24 : 24 + len(label)] = label.encode()
    block[168 : 168 + len(uuid)] = uuid.encode()
    return bytes(block)


def fat_header(serial: int = 0xA496452F, label: str = "RAMOS-ESP") -> bytes:
    """The first bytes of a FAT32 file system."""
    block = bytearray(4096)
    struct.pack_into("<I", block, 67, serial)
    block[71:82] = label.encode().ljust(11)
    block[82:90] = b"FAT32   "
    return bytes(block)


@dataclass
class Machine:
    """A fake machine and the stick in it."""

    root: Path
    generations: list[Generation] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("proc/sys/kernel", "sys/class/block", "dev", "persist/upperfs/layers"):
            (self.root / name).mkdir(parents=True)
        for name in ("run/ramos", "lib/modules", "newroot/sbin", "persist/upperfs/generations"):
            (self.root / name).mkdir(parents=True)
        for name in ("screen", "base", "upper", "luks", "keyboard"):
            self.write(f"lib/modules.{name}", f"{name}_driver\n")
        self.write("proc/uptime", "3.05 1.00\n")
        self.write(
            "proc/meminfo", "MemTotal: 2000000 kB\nMemFree: 1 kB\nMemAvailable: 1900000 kB\n"
        )
        self.write("proc/sys/kernel/osrelease", f"{KERNEL}\n")
        self.write("proc/cmdline", "console=ttyS0\n")
        self.write("newroot/sbin/init", "")
        self.write("dev/random", "x")
        self.write("dev/null", "")
        for name in ("reset", "comp_algorithm", "disksize"):
            self.write(f"sys/block/zram0/{name}", "")

    def write(self, path: str, data: str | bytes) -> Path:
        """Put a file on the machine."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        return file

    def add_disk(self, name: str, parts: dict[str, bytes], content: bytes = b"\0" * 4096) -> None:
        """A disk with partitions, in /sys and /dev."""
        disk = self.root / "sys/devices" / name
        for part, data in parts.items():
            self.write(f"sys/devices/{name}/{part}/partition", "1\n")
            self.write(f"sys/devices/{name}/{part}/size", "4096\n")
            self.write(f"dev/{part}", data)
            (self.root / "sys/class/block" / part).symlink_to(disk / part)
        self.write(f"sys/devices/{name}/size", "8192\n")
        self.write(f"dev/{name}", content)
        (self.root / "sys/class/block" / name).symlink_to(disk)

    def add_stick(self, persist: bytes | None = None) -> None:
        """The usual stick as sda, with base images."""
        self.add_disk("sda", {"sda1": fat_header(), "sda2": persist or superblock()})
        for name in ("rootfs", "firmware", f"modules-{KERNEL}"):
            self.write(f"persist/{name}.squashfs", f"content of {name}")

    def stored(self, kind: Kind, path: str, verity: str = "") -> StoredFile:
        """What a generation file says about a file of the stick."""
        data = (self.root / "persist" / path).read_bytes()
        return StoredFile(kind, path, len(data), hashlib.sha256(data).hexdigest(), verity)

    def add_layer(self, content: str, *, sealed: bool = False, kind: Kind = "layer") -> StoredFile:
        """A layer (or its ACL sidecar) on the stick; a sealed one has a made-up verity digest."""
        name = hashlib.sha256(content.encode()).hexdigest()
        suffix = "squashfs" if kind == "layer" else "acl"
        path = f"upperfs/layers/{name}.{suffix}"
        self.write(f"persist/{path}", content)
        digest = hashlib.sha256(b"verity" + content.encode()).hexdigest()
        if sealed:
            self.write(f"persist/{path}.verity", digest)
        return self.stored(kind, path, digest if sealed else "")

    def add_generation(
        self, number: int, parent: int, *saved: StoredFile, firmware: str = "firmware.squashfs"
    ) -> Path:
        """A generation on the stick."""
        base = (
            self.stored("rootfs", "rootfs.squashfs"),
            self.stored("modules", f"modules-{KERNEL}.squashfs"),
            self.stored("firmware", firmware),
        )
        text = render(Generation(number, parent, 1, KERNEL, "user", "a b\n%", base + saved))
        return self.write(f"persist/upperfs/generations/{number:06d}", text)

    def add_history(self, *, sealed: bool = False) -> None:
        """Generations 1 (as built), 2 and 3 with one layer more each."""
        self.add_generation(1, 0)
        first = self.add_layer("first layer", sealed=sealed)
        self.add_generation(2, 1, first)
        self.add_generation(3, 2, first, self.add_layer("second layer", sealed=sealed))

    def read(self, path: str) -> str:
        """A file of the machine; empty where it is absent."""
        file = self.root / path
        return file.read_text() if file.exists() else ""

    def boot(self, shell: str, cmdline: str = "") -> dict[str, str]:
        """Go through all the steps; returns /run/ramos/boot, `lower`, and `shell` if one opened."""
        self.write("proc/cmdline", f"BOOT_IMAGE=/vmlinuz console=ttyS0 {cmdline}\n")
        done = run_verbs(shell, self.root, list_steps())
        report = dict(line.split("=", 1) for line in self.read("run/ramos/boot").splitlines())
        skipped = [ln for ln in self.read("run/ramos/boot").splitlines() if ln[:8] == "skipped="]
        report["skipped"] = "".join(f"{line[8:]}\n" for line in skipped)
        report["shell"] = self.read("shell").strip()
        report["errors"] = done.stderr
        report["lower"] = self.find_lower()
        return report

    def find_lower(self) -> str:
        """The lowerdir of the overlay that was mounted, shortened to the names below /run/ramos."""
        for line in self.read("calls").splitlines():
            if line.startswith("mount -t overlay"):
                lower = line.partition("lowerdir=")[2].partition(",")[0]
                return lower.replace(f"{self.root}/run/ramos/", "")
        return ""

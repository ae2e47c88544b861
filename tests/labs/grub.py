"""Real GRUB under SeaBIOS on a small FAT disk: which kernel does the menu start, with what?

Only the last step is replaced: `linux` and `initrd` print their words and switch the machine off.
"""

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.boot import menu
from ramos.image import theme
from ramos.vm.qmp import Qmp

ESP_UUID = "ABCD-1234"
# From the first line on the serial line to all of the picture.
SETTLE_SECONDS = 2.0
GRUB_DIR = Path("/usr/lib/grub/i386-pc")
STAND_INS = """
function linux {
    if [ -f "$1" ]; then true; else return 1; fi
    for word in $@; do echo "WORD $word"; done
}
function initrd { echo "WORD $1"; echo "WORD END"; halt; }
"""


@dataclass(frozen=True)
class Started:
    """What GRUB would have booted."""

    kernel: str
    mode: str
    generation: str
    trial: bool = False
    fallback: str = ""


class GrubDisk:
    """An ESP with a menu, an environment and kernels."""

    def __init__(self, folder: Path, timeout_seconds: int = 0) -> None:
        self.folder = folder
        self.image = folder / "esp.img"
        self.program = folder / "grub.bin"
        templates = layout.find_data("grub")
        early = menu.render_early((templates / menu.EARLY_TEMPLATE).read_text())
        (folder / "early.cfg").write_text(early)
        text = menu.render_menu(
            (templates / menu.MENU_TEMPLATE).read_text(),
            menu.Menu("UUID=1-2", timeout_seconds=timeout_seconds),
        )
        (folder / "grub.cfg").write_text(STAND_INS + text)
        self._make_program()
        run("mkfs.vfat", "-C", "-i", ESP_UUID.replace("-", ""), self.image, "4096")
        run("mmd", "-i", self.image, "::/grub", f"::/{layout.KERNELS_DIR}")
        run("mcopy", "-i", self.image, folder / "grub.cfg", f"::/{layout.GRUB_CFG}")
        run("mmd", "-i", self.image, f"::/{theme.FOLDER}")
        text = (templates / theme.TEMPLATE).read_text()
        for name, source in theme.make_theme(text, folder).items():
            run("mcopy", "-i", self.image, source, f"::/{name}")

    def _make_program(self) -> None:
        core = self.folder / "core.img"
        modules = [name for name in menu.MODULES["i386-pc"] if name != "linux"]
        argv: list[str | Path] = ["grub-mkimage", "-O", "i386-pc", "-p", menu.PREFIX, "-o", core]
        run(*argv, "-c", self.folder / "early.cfg", *modules)
        self.program.write_bytes((GRUB_DIR / "lnxboot.img").read_bytes() + core.read_bytes())

    def put(self, data: bytes, path: str) -> None:
        """Write a file of the ESP."""
        source = self.folder / "file"
        source.write_bytes(data)
        run("mcopy", "-D", "o", "-i", self.image, source, f"::/{path}")

    def add_kernel(self, name: str, leave_out: Collection[str] = (), damaged: bool = False) -> None:
        """A kernel directory."""
        folder = f"{layout.KERNELS_DIR}/{name}"
        run("mmd", "-i", self.image, f"::/{folder}")
        files = {part: f"{part} of {name}".encode() for part in ("vmlinuz", "initramfs")}
        sums = "".join(f"{hashlib.sha256(d).hexdigest()}  {part}\n" for part, d in files.items())
        if damaged:
            files["initramfs"] = files["initramfs"].swapcase()
        for part, data in {**files, "sha256": sums.encode(), "complete": b""}.items():
            if part not in leave_out:
                self.put(data, f"{folder}/{part}")

    def read_env(self) -> bytes:
        """The environment block as it is now."""
        return run("mtype", "-i", self.image, f"::/{layout.GRUBENV}")

    def boot(self, mode: str = "default", *, writable: bool = True) -> Started:
        """Run GRUB and tell what it started; an empty kernel where it found none."""
        plain = self.run_grub(mode, writable=writable)
        words = re.findall(r"WORD (\S+)", plain[plain.rindex("Loading Linux") :])
        values = dict(word.split("=", 1) for word in words if "=" in word)
        assert words[-2] == words[0].replace("vmlinuz", "initramfs")
        assert values["ramos.persist"] == "UUID=1-2"
        kernel = words[0].split("/")[2]
        trial = "ramos.trial" in words
        strict = {"panic=10", "oops=panic", "softlockup_panic=1", "nmi_watchdog=panic"}
        assert strict & set(words) == (strict if trial else set())
        fallback = values.get("ramos.fallback", "")
        generation = values.get("ramos.generation", "")
        return Started(kernel, values["ramos.mode"], generation, trial, fallback)

    def run_grub(self, mode: str = "default", *, writable: bool = True) -> str:
        """All that GRUB writes, the menu too if it is shown, to the start of a kernel."""
        drive = f"file={self.image},format=raw,if=none,id=d,readonly={'off' if writable else 'on'}"
        argv = [*self._list_machine(drive), "-serial", "stdio"]
        argv += ["-smbios", f"type=1,product={menu.SERIAL_PRODUCT},version={mode}"]
        output = subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=True
        ).stdout
        plain = read_plain(output)
        assert "WORD END" in plain, plain
        return plain

    def take_picture(self, picture: Path, wanted: str) -> str:
        """Save what the screen shows once the serial line has shown `wanted`; all of that line."""
        line, socket = self.folder / "serial", self.folder / "qmp"
        line.write_bytes(b"")
        drive = f"file={self.image},format=raw,if=none,id=d"
        argv = [*self._list_machine(drive), "-vga", "std", "-serial", f"file:{line}"]
        with subprocess.Popen([*argv, "-qmp", f"unix:{socket},server,nowait"]) as process:
            try:
                wait_for(lambda: wanted.encode() in line.read_bytes())
                qmp = Qmp(socket)
                time.sleep(SETTLE_SECONDS)
                qmp.execute("screendump", filename=str(picture))
                qmp.close()
            finally:
                process.kill()
        return read_plain(line.read_bytes())

    def _list_machine(self, drive: str) -> list[str]:
        argv = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64", "-m", "64", "-no-reboot"]
        argv += ["-nodefaults", "-display", "none", "-kernel", str(self.program)]
        return [*argv, "-drive", drive, "-device", "virtio-blk-pci,drive=d"]


def wait_for(is_there: Callable[[], bool]) -> None:
    """Until it is so, for a minute."""
    deadline = time.monotonic() + 60
    while not is_there():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def read_plain(output: bytes) -> str:
    """What a terminal shows, without what moves its cursor."""
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\r", b"", output).decode("latin-1")


def run(*argv: str | Path) -> bytes:
    """Run a tool that must succeed."""
    env = {**os.environ, "MTOOLS_SKIP_CHECK": "1", "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    return subprocess.run(argv, check=True, capture_output=True, env=env).stdout

"""A running virtual machine: what a person could do to a real one, from a program.

Owns: the QEMU process, its scratch files, and the talk over the serial line. Refuses: touching an
image that the plan did not name; choosing the accelerator (`accelerator` does). Invariants: the
machine ends with its `with` block or with the process that started it; `snapshot` leaves the image
as it was.
"""

import base64
import contextlib
import itertools
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ramos.booted import Mode
from ramos.errors import RamosError
from ramos.linux import run
from ramos.vm import firmware, qemu
from ramos.vm.qmp import Qmp
from ramos.vm.serial import Serial
from ramos.vm.watch import PATIENCE, QEMU_LOG, Patience, Watch, read_complaint

Line = TypeVar("Line")
SOCKET_SECONDS = 20.0
BOOT_SECONDS = 240.0
COMMAND_SECONDS = 120.0
# A terminal in line mode takes 4095 bytes; longer commands travel in pieces.
LINE_BYTES = 3000
PIECE_BYTES = 2000
HOTKEYS = {Mode.DEFAULT: "1", Mode.BACKUP: "2", Mode.CLEAN: "3", "kernels": "4"}
# A getty's question, and its own answer on an image that logs its user in by itself.
LOGIN = r"\S+ login: "
AUTOMATIC = r"\(automatic login\)"
AUTOMATIC_SECONDS = 2.0
# The last line so far, and not a word of what a login shows before it.
PROMPT = r"^(~ |/\S* )?\S*[#$] \Z"
SHELL_SETUP = "stty -echo cols 250; PS1=; PS2=; dmesg -n 1; unset HISTFILE"


class Machine:
    """A machine that runs; made by `start_machine`."""

    def __init__(self, plan: qemu.VmPlan, process: run.Process, scratch: Path) -> None:
        self.plan = plan
        self.process = process
        self._numbers = itertools.count(1)
        self.serial = _connect(Serial, qemu.serial_socket(scratch), process)
        self.qmp = _connect(Qmp, qemu.qmp_socket(scratch), process)

    def close(self) -> None:
        """Let go of the lines."""
        self.serial.close()
        self.qmp.close()

    def expect(self, pattern: str, timeout_seconds: float = BOOT_SECONDS) -> re.Match[str]:
        """Wait for text on the serial line."""
        return self.serial.expect(pattern, timeout_seconds)

    def pick_entry(self, entry: str) -> None:
        """Choose from GRUB's menu (default, backup, clean, kernels) once it is shown."""
        self.expect(r"RAMOS \(clean\)")
        time.sleep(0.5)
        self.serial.send(HOTKEYS[entry])
        if entry != "kernels":
            self.expect("Loading Linux")

    def login(self, user: str, password: str = "") -> None:
        """Wait for the login prompt, answer it if need be, and become root in a plain shell."""
        self.expect(LOGIN)
        if not self.is_answered():
            self.serial.send(f"{user}\n")
            if password:
                self.expect("Password: ")
                self.serial.send(f"{password}\n")
        self.open_shell("exec sudo -n sh" if user != "root" else "exec sh")

    def is_answered(self) -> bool:
        """Whether the login prompt that was just seen is answered by the image itself."""
        with contextlib.suppress(RamosError):
            self.expect(AUTOMATIC, AUTOMATIC_SECONDS)
            return True
        return False

    def open_shell(self, command: str = "exec sh") -> None:
        """From any prompt to a shell that neither echoes nor prompts."""
        self.expect(PROMPT, COMMAND_SECONDS)
        self.serial.send(f"{command}\n")
        self.expect(PROMPT, COMMAND_SECONDS)
        self.serial.send(f"{SHELL_SETUP}; echo REA''DY\n")
        self.expect(r"READY$", COMMAND_SECONDS)

    def shell(self, command: str, timeout_seconds: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Run a command of any length in the guest's shell: its status and what it printed."""
        if len(command) > LINE_BYTES or "\n" in command:
            return self._run_script(command, timeout_seconds)
        number = next(self._numbers)
        self.serial.send(f"echo @BE''GIN{number}@; {command}\necho @E''ND{number}:$?@\n")
        self.expect(f"@BEGIN{number}@\n", timeout_seconds)
        match = self.expect(rf"(?s)(.*?)@END{number}:(\d+)@\n", timeout_seconds)
        return int(match[2]), match[1].rstrip("\n")

    def check_shell(self, command: str, timeout_seconds: float = COMMAND_SECONDS) -> str:
        """Run a command that must succeed, and give back what it printed."""
        status, output = self.shell(command, timeout_seconds)
        if status != 0:
            raise RamosError("command failed in the guest", command, f"status {status}: {output}")
        return output

    def write_file(self, path: str, data: bytes) -> None:
        """Put a file into the guest over the serial line: for small ones."""
        text = base64.b64encode(data).decode()
        self.check_shell(f": >'{path}.b64'")
        for start in range(0, len(text), PIECE_BYTES):
            self.check_shell(f"printf %s {text[start : start + PIECE_BYTES]} >>'{path}.b64'")
        self.check_shell(f"base64 -d '{path}.b64' >'{path}' && rm '{path}.b64'")

    def unplug(self) -> None:
        """Pull the stick out."""
        self.qmp.execute("device_del", id=qemu.STICK)
        while self.qmp.wait_event("DEVICE_DELETED")["data"].get("device") != qemu.STICK:
            pass

    def replug(self) -> None:
        """Put the same stick back."""
        self.qmp.execute("device_add", **qemu.stick_device(self.plan.bus))

    def take_screenshot(self, path: Path) -> None:
        """Save what the screen shows as a PNG."""
        self.qmp.execute("screendump", filename=str(path.absolute()), format="png")

    def save_state(self, name: str) -> None:
        """Keep the whole machine inside its qcow2 image."""
        self._run_monitor(f"savevm {name}")

    def load_state(self, name: str) -> None:
        """Go back to a kept state."""
        self._run_monitor(f"loadvm {name}")

    def power_cut(self) -> None:
        """Stop at once. What the guest wrote is in the host's page cache: see tests/crash."""
        self.process.kill()
        self.process.wait()

    def await_end(self, timeout_seconds: float = BOOT_SECONDS) -> None:
        """Wait until the guest has switched the machine off."""
        deadline = time.monotonic() + timeout_seconds
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                state = f"The last lines were:\n{self.serial.tail}"
                reason = f"it runs on after {timeout_seconds:.0f} s"
                raise RamosError("the machine does not end", self.plan.image, reason, state)
            time.sleep(0.05)

    def power_off(self, timeout_seconds: float = BOOT_SECONDS) -> None:
        """Shut down from the guest's shell and wait for the end."""
        self.serial.send("poweroff\n")
        self.await_end(timeout_seconds)

    def _run_script(self, script: str, timeout_seconds: float) -> tuple[int, str]:
        path = f"/run/vm-script-{next(self._numbers)}"
        self.write_file(path, script.encode())
        return self.shell(f"sh {path}", timeout_seconds)

    def _run_monitor(self, line: str) -> None:
        complaint = self.qmp.run_monitor(line)
        if complaint:
            raise RamosError("QEMU refuses", line, complaint)


@dataclass(frozen=True)
class Running:
    """A QEMU that was started, and what to know of it."""

    plan: qemu.VmPlan
    process: run.Process
    scratch: Path
    watch: Watch


@contextlib.contextmanager
def start_machine(
    plan: qemu.VmPlan, *, snapshot: bool = True, kvm: bool = False
) -> Iterator[Machine]:
    """A machine driven by a program; with `snapshot`, what it writes is thrown away."""
    with launch(plan, "socket", snapshot=snapshot, kvm=kvm) as running:
        machine = connect(running)
        try:
            yield machine
        except RamosError as error:
            running.watch.check(error)
            raise
        finally:
            machine.close()


@contextlib.contextmanager
def launch(
    plan: qemu.VmPlan,
    console: qemu.Console,
    *,
    snapshot: bool,
    kvm: bool,
    patience: Patience = PATIENCE,
) -> Iterator[Running]:
    """Start QEMU and watch it; its own output goes to a log, whatever the console is."""
    with tempfile.TemporaryDirectory(prefix="ramos-vm-") as name:
        scratch = Path(name)
        plan, host = prepare(plan, scratch, snapshot=snapshot)
        argv = qemu.render_argv(plan, replace(host, kvm=kvm, console=console))
        log_file = qemu.serial_log(scratch)
        if plan.log:
            log_file.symlink_to(plan.log.absolute())
        log_file.write_bytes(b"")
        with (scratch / QEMU_LOG).open("wb") as log, contextlib.ExitStack() as stack:
            lines = {"stdin": None, "stdout": None} if console == "terminal" else {"stdout": log}
            process = stack.enter_context(run.started(argv, stderr=log, **lines))
            watch = Watch(process, scratch, kvm=kvm, patience=patience)
            stack.callback(watch.close)
            yield Running(plan, process, scratch, watch)


def connect(running: Running) -> Machine:
    """Take hold of a QEMU that has just been started, or tell what it complained about."""
    try:
        return Machine(running.plan, running.process, running.scratch)
    except (OSError, RamosError) as error:
        running.watch.check(error)
        reason = read_complaint(running.scratch) or str(error)
        raise RamosError("cannot start the virtual machine", "QEMU", reason) from error


def prepare(plan: qemu.VmPlan, scratch: Path, *, snapshot: bool) -> tuple[qemu.VmPlan, qemu.VmHost]:
    """Put together what the machine needs from the host, in a folder that lives as long as it."""
    host = describe_host(plan, scratch)
    if host.drops_variables and host.firmware_variables:
        # A store that was used boots stale entries.
        fresh = Path(shutil.copyfile(host.firmware_variables, scratch / "vars.fd"))
        host = replace(host, firmware_variables=fresh, drops_variables=False)
    if snapshot:
        overlay = make_overlay(plan.image, plan.image_format, scratch / "overlay.qcow2")
        plan = replace(plan, image=overlay, image_format="qcow2", flush=False)
    return plan, host


def describe_host(plan: qemu.VmPlan, scratch: Path) -> qemu.VmHost:
    """What of the host the machine boots with; a store for UEFI's variables is made where asked."""
    host = qemu.VmHost(scratch)
    if plan.firmware == "direct":
        return replace(host, direct=find_kernel(plan, scratch))
    if plan.firmware == "bios":
        return host
    code, variables = firmware.find_ovmf()
    if plan.nvram and not plan.nvram.exists():
        shutil.copyfile(variables, plan.nvram)
    return replace(
        host,
        firmware_code=code,
        firmware_variables=plan.nvram or variables,
        drops_variables=plan.nvram is None,
    )


def find_kernel(plan: qemu.VmPlan, scratch: Path) -> firmware.DirectKernel:
    """What a direct boot starts: what the plan names, else what the image has."""
    kernel = plan.kernel or firmware.read_direct_kernel(find_base(plan), scratch)
    return replace(
        kernel,
        vmlinuz=plan.vmlinuz or kernel.vmlinuz,
        initramfs=plan.initramfs or kernel.initramfs,
    )


def make_overlay(image: Path, image_format: str, overlay: Path) -> Path:
    """A file that takes the writes to an image which itself stays as it is."""
    base = str(image.absolute())
    run.run(["qemu-img", "create", "-qf", "qcow2", "-F", image_format, "-b", base, overlay])
    return overlay


def find_base(plan: qemu.VmPlan) -> Path:
    """The raw image below a chain of overlays: the kernel is read from there."""
    image = plan.image
    while image.open("rb").read(4) == b"QFI\xfb":
        info = run.run(["qemu-img", "info", "--force-share", "--output=json", image]).text
        found = re.search(r'"full-backing-filename": "([^"]+)"', info)
        if found is None:
            reason = "it is a qcow2 image without a raw one below it"
            raise RamosError("cannot boot the image directly", plan.image, reason)
        image = Path(found[1])
    return image


def _connect(kind: Callable[[Path], Line], path: Path, process: run.Process) -> Line:
    """Connect to a QEMU that has just been started: its socket has a name before it listens."""
    deadline = time.monotonic() + SOCKET_SECONDS
    while True:
        try:
            return kind(path)
        except (OSError, RamosError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RamosError("no socket of QEMU", path, error) from error
        time.sleep(0.01)

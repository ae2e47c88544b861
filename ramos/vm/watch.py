"""The eye on a running QEMU: it sees when a machine has come to a halt that nobody asked for.

Owns: a thread that asks QEMU for its run state all the time, and what counts as a fault. Refuses:
deciding what to do about one (`accelerator` does). Invariants: a machine with a fault is ended at
once, so that whoever waits for it need not wait long; under emulation, being slow is no fault; what
a machine ended on is told in one line, without control characters.
"""

import re
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError, find_reason
from ramos.linux import run
from ramos.vm import qemu
from ramos.vm.qmp import Qmp
from ramos.vm.serial import ESCAPES

QEMU_LOG = "qemu.log"
INTERVAL_SECONDS = 0.25
ANSWER_SECONDS = 60.0
END_SECONDS = 2.0
LOG_BYTES = 65536
TAIL_BYTES = 512
LOADING = re.compile(rb"Loading [^\n]*\s*\Z")
# What QEMU prints when KVM or the processor lets it down; a mere warning is none of it.
COMPLAINT = re.compile(
    r"KVM internal error|kvm run failed|failed to (set|get) MSR|KVM_\w+ failed|kvm_\w+: Assertion"
    r"|Could not access KVM|failed to initialize kvm|CPU model '\w+' requires KVM"
    r"|invalid accelerator kvm"
)
CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)


@dataclass(frozen=True)
class Patience:
    """How long a machine under KVM may show nothing."""

    # Firmware says its first word or reads the stick within two seconds.
    start_seconds: float = 10.0
    # From GRUB's last word to the first of the kernel or the initramfs it takes some five.
    loading_seconds: float = 30.0


PATIENCE = Patience()


class MachineFault(RamosError):
    """A virtual machine that did not run: the fault of the host, not of what it boots."""


class Watch:
    """Looks at one QEMU from its start to its end; made by `machine.launch`."""

    def __init__(
        self, process: run.Process, scratch: Path, *, kvm: bool, patience: Patience
    ) -> None:
        self.fault = ""
        self.alive = False
        self._process = process
        self._scratch = scratch
        self._kvm = kvm
        self._patience = patience
        self._offset = 0
        self._said = 0
        self._tail = b""
        self._progress = (0, 0)
        self._moved = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        self._thread.join()

    def check(self, cause: Exception | None = None) -> None:
        """Raise the fault that the machine has come to, if there is one."""
        if cause is not None:
            self._is_ending()
        fault = self.fault or find_fault(self._process.poll(), self._scratch, kvm=self._kvm)
        if fault:
            hint = "Try --accel tcg: software emulation." if self._kvm else ""
            raise MachineFault(
                "the virtual machine broke down", "QEMU", fault, hint=hint
            ) from cause

    def _follow(self) -> None:
        """The thread: one look after another until the machine has ended."""
        try:
            qmp = self._connect()
            while not self._ended.wait(INTERVAL_SECONDS) and self._process.poll() is None:
                if self.alive:
                    qmp.answer_seconds = ANSWER_SECONDS
                self.fault = self._look(qmp)
                if self.fault:
                    break
            qmp.close()
        except (OSError, RamosError) as error:
            if self._kvm and not self._is_ending():
                reason = find_reason(error)
                self.fault = f"QEMU does not answer: {reason}"
        if self.fault:
            self._process.kill()

    def _is_ending(self) -> bool:
        """Whether silence has a simple reason; sockets go some time before their process does."""
        deadline = time.monotonic() + END_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return self._ended.is_set() or self._process.poll() is not None

    def _connect(self) -> Qmp:
        wait_seconds = self._patience.start_seconds if self._kvm else ANSWER_SECONDS
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                return Qmp(qemu.watch_socket(self._scratch), wait_seconds)
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline or self._ended.wait(0.02):
                    raise
                if self._process.poll() is not None:
                    raise

    def _look(self, qmp: Qmp) -> str:
        """What is wrong now, if anything."""
        status = qmp.execute("query-status")["status"]
        if status == "internal-error":
            return read_complaint(self._scratch) or "its processor stopped with an internal error"
        if not self._kvm:
            return ""
        complaint = read_complaint(self._scratch)
        if COMPLAINT.search(complaint):
            return complaint
        progress = (self._count_output(), _count_reads(qmp))
        if progress != self._progress or status != "running":
            self._moved, self._progress = time.monotonic(), progress
            self.alive = self.alive or progress != (0, 0)
        return self._find_standstill(time.monotonic() - self._moved)

    def _find_standstill(self, still_seconds: float) -> str:
        """A start without a sign of life, or a kernel that was loaded and says nothing."""
        start, loading = self._patience.start_seconds, self._patience.loading_seconds
        if not self.alive and still_seconds > start:
            return f"it shows nothing {start:.0f} s after its start"
        if LOADING.search(self._tail) and still_seconds > loading:
            return f"it shows nothing {loading:.0f} s after its kernel was loaded"
        return ""

    def _count_output(self) -> int:
        """How many bytes the serial line has said; its log is kept short."""
        path = qemu.serial_log(self._scratch)
        with path.open("r+b") as file:
            file.seek(self._offset)
            new = file.read()
            self._offset += len(new)
            if self._offset > LOG_BYTES and not path.is_symlink():  # it is the user's then
                file.truncate(0)
                self._offset = 0
        self._said += len(new)
        self._tail = ESCAPES.sub(b"", (self._tail + new)[-TAIL_BYTES:])
        return self._said


def find_fault(code: int | None, scratch: Path, *, kvm: bool) -> str:
    """Why a QEMU that has ended by itself did so, where KVM or a crash is the reason."""
    if code is None or code == 0:
        return ""
    complaint = read_complaint(scratch)
    if kvm and COMPLAINT.search(complaint):
        return complaint
    if -code in CRASHES:
        return complaint or f"QEMU crashed (signal {-code})"
    return ""


def read_complaint(scratch: Path) -> str:
    """What QEMU printed that tells most, as one line of printable characters."""
    path = scratch / QEMU_LOG
    text = path.read_bytes()[:LOG_BYTES].decode("utf-8", "replace") if path.exists() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if "warning:" not in line]
    best = next((line for line in lines if COMPLAINT.search(line)), lines[0] if lines else "")
    plain = best.removeprefix("qemu-system-x86_64: ").removeprefix("error: ")
    return "".join(letter if letter.isprintable() else "?" for letter in plain)[:200]


def _count_reads(qmp: Qmp) -> int:
    """How often the stick was read."""
    rows = qmp.execute("query-blockstats")
    return sum(row["stats"]["rd_operations"] for row in rows if row.get("node-name") == qemu.DISK)

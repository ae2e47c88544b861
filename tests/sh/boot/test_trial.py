"""A kernel on trial, the one that is back after it, and two builds of one version."""

from pathlib import Path

import pytest

from tests.labs.harness import KERNEL, SHELLS, Machine, run_verbs


def test_kernel_on_trial_restarts_where_a_shell_would_open(tmp_path: Path, shell: str) -> None:
    machine = Machine(tmp_path / "m")
    machine.write("sys/class/tty/console/active", "tty0 ttyS0\n")
    report = machine.boot(shell, "ramos.trial panic=10")
    assert report["shell"] == ""
    assert machine.read("calls").splitlines()[-2:] == ["sleep 10", "reboot -f"]
    for console in ("tty0", "ttyS0"):
        text = machine.read(f"dev/{console}")
        assert "RAMOS stopped at step 'persist': no LABEL=ramos-persist within 30 s" in text
        assert "This kernel is on trial." in text
        assert "The machine restarts in 10 s" in text
    assert "persist restart: no LABEL=ramos-persist" in machine.read("run/ramos/boot.log")


def test_kernel_on_trial_that_finds_everything_boots(machine: Machine, shell: str) -> None:
    report = machine.boot(shell, "ramos.trial panic=10")
    assert report["generation"] == "3"
    assert report["shell"] == report["errors"] == ""
    assert machine.read("run/ramos/motd") == ""


GUARD = """
TRIAL=1
STEP=start
GUARD_SECONDS=2
FEED_SECONDS=1
mkdir -p "$RAMOS_RUN_DIR" "$LIB"
: >"$LIB/modules.watchdog"
"""


# The kernel's boot has BusyBox; dash has no `read -t`.
@pytest.mark.parametrize("shell", [name for name in SHELLS if name != "dash"])
@pytest.mark.parametrize(
    ("lines", "restarts"),
    [
        ("start_guard; wait", True),
        ("start_guard; echo confirmed >$RAMOS_GUARD_PIPE; wait", False),
        ("start_guard; stop_guard; start_guard; stop_guard", False),
        ("start_guard; kill $GUARD; wait", False),
        ("TRIAL=0; start_guard; stop_guard; wait", False),
    ],
)
def test_the_guard_restarts_a_boot_that_nobody_confirms(
    tmp_path: Path, shell: str, lines: str, restarts: bool
) -> None:
    machine = Machine(tmp_path / "m")
    machine.write("dev/kmsg", "")
    machine.write("proc/sysrq-trigger", "")
    machine.write("proc/sys/kernel/hung_task_panic", "1\n")
    done = run_verbs(shell, machine.root, f"{GUARD}\n{lines}\n")
    assert done.stderr == ""
    assert machine.read("proc/sysrq-trigger") == ("s\nb\n" if restarts else "")
    told = "RAMOS: this kernel is on trial, and did not come up within 2 s: restart"
    assert (told in machine.read("dev/kmsg")) == restarts
    assert machine.read("proc/sys/kernel/hung_task_panic") == ("1\n" if "=0" in lines else "0\n")


@pytest.mark.parametrize("shell", [name for name in SHELLS if name != "dash"])
def test_the_guard_leaves_the_disks_time_before_it_restarts(tmp_path: Path, shell: str) -> None:
    """The kernel syncs by itself after the first letter; the second one restarts at once."""
    machine = Machine(tmp_path / "m")
    machine.write("dev/kmsg", "")
    machine.write("proc/sysrq-trigger", "")
    lines = """
    GUARD_SECONDS=0
    FEED_SECONDS=900
    start_guard
    until [ -s "$PROC/sysrq-trigger" ]; do sleep 0.1; done
    sleep 0.5
    cat "$PROC/sysrq-trigger"
    kill -0 "$GUARD" || exit 1
    echo go >"$RAMOS_GUARD_PIPE"
    wait
    """
    done = run_verbs(shell, machine.root, f"{GUARD}\n{lines}\n")
    assert done.stdout == "s\n"
    assert machine.read("proc/sysrq-trigger") == "s\nb\n"


def test_login_tells_which_kernel_was_given_up(machine: Machine, shell: str) -> None:
    machine.boot(shell, "ramos.fallback=6.1.0-2-amd64+2")
    greeting = machine.read("run/ramos/motd")
    assert greeting.startswith("RAMOS: the new kernel 6.1.0-2-amd64+2 was given up")
    assert "warning=the new kernel 6.1.0-2-amd64+2" in machine.read("run/ramos/boot")
    machine.boot(shell, "ramos.fallback=$(reboot)")
    assert "kernel parameter ignored: ramos.fallback=$(reboot)" in machine.read("run/ramos/motd")


@pytest.mark.parametrize(
    ("folder", "image"),
    [
        (KERNEL, KERNEL),
        (f"{KERNEL}+2", f"{KERNEL}+2"),
        (f"{KERNEL}+3", KERNEL),
        ("6.9.9+2", KERNEL),
    ],
)
def test_modules_are_those_of_the_directory_that_grub_took_the_kernel_from(
    machine: Machine, shell: str, folder: str, image: str
) -> None:
    for name in (f"{KERNEL}+2", "6.9.9+2"):
        machine.write(f"persist/modules-{name}.squashfs", "of another build")
    machine.boot(shell, f"BOOT_IMAGE=/kernels/{folder}/vmlinuz")
    calls = machine.read("calls")
    assert f"{machine.root}/persist/modules-{image}.squashfs " in calls
    assert calls.count("/persist/modules-") == 1

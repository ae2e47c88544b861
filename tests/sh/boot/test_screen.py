"""What the screen shows from the menu to the login: steps, and with Esc the lines of the log."""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.labs.harness import HOOKS, SHELLS, Machine, list_steps, place, run_verbs

VT = "sys/module/vt/parameters/global_cursor_default"
# A step that says something, one that warns, and one that takes no time.
STEPS = """
find_it() { say "it is there"; DONE=sda2; }
open_it() { warn "it was repaired"; }
pick() { :; }
parse_parameters
open_screen
run_step persist find_it
run_step mount open_it
run_step generation pick
"""


@pytest.fixture
def screened(machine: Machine) -> Machine:
    """A machine with a screen, which is its console, too."""
    machine.write("dev/tty0", "")
    machine.write("sys/class/tty/console/active", "ttyS0 tty0\n")
    machine.write("sys/class/tty/tty0/active", "tty1\n")
    machine.write(VT, "0\n")
    return machine


def read_screen(machine: Machine) -> str:
    """All that was written to the screen, with its carriage returns."""
    return (machine.root / "dev/tty0").read_bytes().decode()


def read_lines(shown: str) -> list[str]:
    """What stands on the lines of a screen in the end: a line that is drawn again begins anew."""
    plain = re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", shown)
    return [line.rpartition("\r")[2].rstrip() for line in plain.split("\n")]


def test_each_step_that_takes_time_has_a_line(screened: Machine, shell: str) -> None:
    done = run_verbs(shell, screened.root, STEPS + "close_screen")
    shown = read_screen(screened)
    assert shown.startswith("\x1b[?25l"), "there is no cursor"
    assert shown.endswith("\x1b[?25h"), "there is one again"
    assert screened.read(VT) == "1\n", "on every terminal"
    assert [line for line in read_lines(shown) if line] == [
        "  RAMOS",
        "  [ ok ]  Looking for the stick",
        "          it was repaired",
        "  [ ok ]  Opening it",
    ]
    assert "RAMOS: " not in done.stdout, "what is said is no line across the others"
    assert "it is there" in screened.read("run/ramos/boot.log")
    assert done.stderr == ""


def test_a_serial_console_has_what_is_said(screened: Machine, shell: str) -> None:
    screened.write("sys/class/tty/console/active", "tty0 ttyS0\n")
    done = run_verbs(shell, screened.root, STEPS)
    assert done.stdout == "RAMOS: it is there\nRAMOS: it was repaired\n"
    assert "  [ ok ]  Opening it" in read_lines(read_screen(screened))


def test_a_whole_boot_ends_with_the_screen_given_back(screened: Machine, shell: str) -> None:
    done = run_verbs(shell, screened.root, f"open_screen\n{list_steps()}\nstart_system")
    lines_shown = [line for line in read_lines(read_screen(screened)) if line]
    assert [line for line in lines_shown if line.startswith("  [")] == [
        f"  [ ok ]  {words}"
        for words in (
            "Loading drivers",
            "Looking for the stick",
            "Opening it",
            "Opening the programs",
            "Adding what you have saved",
            "Making room for what you change",
        )
    ]
    assert lines_shown[-1] == "  Starting the system: default, generation 3"
    assert screened.read(VT) == "1\n"
    assert "RAMOS: default" not in done.stdout


def test_verbose_shows_the_log_in_place_of_the_steps(screened: Machine, shell: str) -> None:
    screened.write("proc/cmdline", "ramos.verbose\n")
    run_verbs(shell, screened.root, STEPS + "close_screen")
    shown = read_lines(read_screen(screened))
    log = screened.read("run/ramos/boot.log").splitlines()
    assert log == [line for line in shown if line and line != "  RAMOS"]
    assert any(line.endswith(" persist sda2") for line in log)
    assert not (screened.root / "run/ramos/details").exists()


def test_a_step_that_fails_is_marked_before_the_shell(screened: Machine, shell: str) -> None:
    lines = """
    busybox() { :; }
    setsid() { echo "cursor: $(tail -c 6 "$DEV/tty0")" >"$R/seen"; exit 3; }
    fail() { WHY="it is gone"; return 1; }
    parse_parameters
    open_screen
    run_step persist fail
    """
    script = place(lines, screened.root).replace("open_shell() { echo", "unused() { echo")
    done = subprocess.run(
        [*SHELLS[shell], "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    shown = read_lines(read_screen(screened))
    mark = shown.index("  [FAIL]  Looking for the stick")
    assert "RAMOS stopped at step 'persist': it is gone" in shown[mark + 1 :]
    assert screened.read(VT) == "1\n"
    assert done.stderr == ""


def test_without_a_screen_nothing_is_drawn(machine: Machine, shell: str) -> None:
    done = run_verbs(shell, machine.root, STEPS + "close_screen")
    assert done.stderr == ""
    assert not (machine.root / "dev/tty0").exists()
    assert done.stdout == "RAMOS: it is there\nRAMOS: it was repaired\n"


@pytest.mark.parametrize("verb", ["verify_sum", "copy_to_ram"])
def test_a_large_file_shows_how_far_it_is(screened: Machine, shell: str, verb: str) -> None:
    """What reads the file stops half-way until that has been shown."""
    file = screened.root / "persist/large.squashfs"
    with file.open("wb") as out:
        out.truncate(40 << 20)
    call = {"verify_sum": f"verify_sum {file} 0123", "copy_to_ram": f"copy_to_ram {file} large"}
    lines = f"""
    PROC=/proc
    sleep() {{
        [ ! -e /proc/self/fd/3 ] || echo held >"$R/held"
        command sleep 0.05
    }}
    drop_caches() {{ READ_TRIES=0; }}
    read_half() {{
        dd bs=1M count=20 of=/dev/null 2>/dev/null
        until grep -q "50 % of 40 MiB" "$R/dev/tty0"; do command sleep 0.05; done
        head -c 1
    }}
    sha256sum() {{ read_half; }}
    cat() {{ if [ $# = 0 ]; then read_half; else command cat "$@"; fi; }}
    SCREEN=$DEV/tty0
    STEP=base
    begin_step base
    {call[verb]}
    end_step " ok "
    """
    done = run_verbs(shell, screened.root, lines)
    assert done.stderr == ""
    shown = read_screen(screened)
    assert re.search(r"Opening the programs: large\S*, 50 % of 40 MiB", shown)
    assert read_lines(shown)[-2] == "  [ ok ]  Opening the programs"
    assert screened.read("held") == "", "a stick that is left behind is in nobody's hands"


def test_what_cannot_be_opened_is_no_end_of_the_boot(screened: Machine, shell: str) -> None:
    """A redirection that fails ends a shell, where it stands at the wrong place."""
    lines = """
    STEP=base
    verify_sum "$R/missing" 0123
    echo "$WHY"
    copy_to_ram "$R/missing" copy
    echo "$WHY"
    """
    said = run_verbs(shell, screened.root, lines).stdout.splitlines()
    assert said == ["missing is damaged (sha256)", "copy cannot be read"]


# The kernel's boot has BusyBox; dash has no `read -t`.
WITH_KEYS = [name for name in SHELLS if name != "dash"]


@dataclass
class Terminal:
    """The screen of a machine as a real terminal, with somebody before it."""

    machine: Machine
    text: bytes = b""

    def __post_init__(self) -> None:
        self.master, self.slave = os.openpty()
        (self.machine.root / "dev/tty0").symlink_to(os.ttyname(self.slave))
        self.machine.write("sys/class/tty/console/active", "tty0\n")
        self.machine.write("calls", "")

    def type_after(self, wanted: bytes, keys: bytes) -> None:
        """Wait for a text, then type; go on reading until there is a cursor again at the end."""
        while wanted not in self.text:
            self.text += os.read(self.master, 1000)
        os.write(self.master, keys)
        while not self.text.endswith(b"END"):
            self.text += os.read(self.master, 1000)

    def run(self, shell: str, lines: str, wanted: bytes, keys: bytes) -> str:
        """Run lines while somebody types; what they print."""
        with ThreadPoolExecutor() as pool:
            typist = pool.submit(self.type_after, wanted, keys)
            done = run_verbs(shell, self.machine.root, f'{lines}\nprintf END >"$DEV/tty0"')
            typist.result(60)
        os.close(self.master)
        os.close(self.slave)
        return done.stdout


@pytest.mark.parametrize("shell", WITH_KEYS)
@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
def test_esc_shows_the_log_so_far_and_all_that_follows(
    machine: Machine, shell: str, late: bool
) -> None:
    """Another key shows nothing; a keyboard that has no driver yet gets one after a moment."""
    terminal = Terminal(machine)
    lines = f"""
    KEYS_SECONDS=1
    wait_for() {{ until "$@"; do command sleep 0.05; done; }}
    parse_parameters
    open_screen
    begin_step persist
    note persist "before"
    [ {int(late)} = 0 ] || wait_for grep -q keyboard_driver "$R/calls"
    draw "ready"
    wait_for shows_details
    wait_for [ "$(wc -l <"$RAMOS_BOOT_LOG")" -ge 2 ]
    note persist "after"
    end_step " ok "
    close_screen
    stty -a <"$DEV/tty0"
    """
    said = terminal.run(shell, lines, b"ready", b"x\x1b")
    assert " -echo " not in said.replace("\n", " ")
    assert " -icanon " not in said.replace("\n", " ")
    assert re.search(rb"persist before\r\n.* persist after\r\n", terminal.text, re.S)
    assert b"[ ok ]" not in terminal.text


@pytest.mark.parametrize("shell", WITH_KEYS)
def test_a_passphrase_goes_to_nobody_who_waits_for_esc(machine: Machine, shell: str) -> None:
    terminal = Terminal(machine)
    lines = f"""
    . {HOOKS}/lib/50-luks.sh
    open_luks() {{ echo "<$PASSPHRASE>"; }}
    take_opened() {{ :; }}
    PERSIST_TYPE=luks PERSIST_NODE=sda2
    parse_parameters
    open_screen
    unlock_persist
    close_screen
    """
    assert terminal.run(shell, lines, b"Passphrase for sda2", b"secret words\n") == (
        "<secret words>\n"
    )
    assert b"secret" not in terminal.text

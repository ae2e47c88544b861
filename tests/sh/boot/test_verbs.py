"""The verbs of the initramfs one by one, under dash and BusyBox ash."""

import os
import shlex
import stat
import subprocess
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ramos.boot import initramfs
from tests.labs import alpine_root
from tests.labs.harness import (
    PERSIST_UUID,
    SHELLS,
    Machine,
    fat_header,
    luks_header,
    run_verbs,
    superblock,
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m")


def tell(shell: str, machine: Machine, lines: str) -> str:
    """What `lines` print; they must not complain."""
    done = run_verbs(shell, machine.root, lines)
    assert done.stderr == ""
    return done.stdout.rstrip("\n")


PARAMETERS = [
    ("ramos.mode=clean", "ASKED_MODE", "clean"),
    ("ramos.mode=Clean", "ASKED_MODE", "default"),
    ("ramos.mode=", "ASKED_MODE", "default"),
    ("ramos.generation=42", "ASKED_GENERATION", "42"),
    ("ramos.generation=000042", "ASKED_GENERATION", "42"),
    ("ramos.generation=0x2a", "ASKED_GENERATION", ""),
    ("ramos.generation=1234567890", "ASKED_GENERATION", ""),
    ("ramos.persist=LABEL=my_stick-2", "PERSIST_ID", "LABEL=my_stick-2"),
    ("ramos.persist=LABEL=$(reboot)", "PERSIST_ID", "LABEL=ramos-persist"),
    ("ramos.persist=LABEL=`id`", "PERSIST_ID", "LABEL=ramos-persist"),
    ("ramos.persist=/dev/sda2", "PERSIST_ID", "LABEL=ramos-persist"),
    (f"ramos.persist=UUID={PERSIST_UUID}", "PERSIST_ID", f"UUID={PERSIST_UUID}"),
    ("ramos.persist=UUID=1234", "PERSIST_ID", "LABEL=ramos-persist"),
    (f"ramos.luks=UUID={PERSIST_UUID}", "LUKS_ID", f"UUID={PERSIST_UUID}"),
    ("ramos.luks=1", "LUKS_ID", ""),
    ("ramos.upper=tmpfs", "UPPER_KIND", "tmpfs"),
    ("ramos.upper=ext4", "UPPER_KIND", "zram"),
    ("ramos.upper_size=50%", "UPPER_SIZE", "50%"),
    ("ramos.upper_size=2G", "UPPER_SIZE", "2G"),
    ("ramos.upper_size=0%", "UPPER_SIZE", "75%"),
    ("ramos.upper_size=101%", "UPPER_SIZE", "75%"),
    ("ramos.upper_size=2T", "UPPER_SIZE", "75%"),
    ("ramos.upper_size=", "UPPER_SIZE", "75%"),
    ("ramos.restore=unpack", "RESTORE", "unpack"),
    ("ramos.toram", "ASKED_TORAM", "now"),
    ("ramos.toram=now", "ASKED_TORAM", "now"),
    ("ramos.toram=no", "ASKED_TORAM", "no"),
    ("ramos.toram=no ramos.toram=later", "ASKED_TORAM", "later"),
    ("ramos.toram=yes", "ASKED_TORAM", "later"),
    ("ramos.verify=full", "VERIFY", "full"),
    ("ramos.break=base", "BREAK", "base"),
    ("ramos.break=nowhere", "BREAK", ""),
    ("ramos.trial", "TRIAL", "1"),
    ("ramos.trial=1", "TRIAL", "0"),
    ("BOOT_IMAGE=/kernels/6.1.0-1-amd64+2/vmlinuz", "KERNEL_NAME", "6.1.0-1-amd64+2"),
    ("BOOT_IMAGE=(hd0,gpt1)/kernels/6.1/vmlinuz", "KERNEL_NAME", "6.1"),
    ("BOOT_IMAGE=/kernels/$(id)/vmlinuz", "KERNEL_NAME", ""),
    ("BOOT_IMAGE=/boot/vmlinuz", "KERNEL_NAME", ""),
    ("init=/bin/sh", "REAL_INIT", "/bin/sh"),
    ("init=/bin/sh;reboot", "REAL_INIT", "/sbin/init"),
    ("MODE=clean ASKED_MODE=clean", "ASKED_MODE", "default"),
    ("ramos_mode=clean", "ASKED_MODE", "default"),
    ("* ramos.mode=backup", "ASKED_MODE", "backup"),
    ("ramos.mode=backup ramos.mode=clean", "ASKED_MODE", "clean"),
]


@pytest.mark.parametrize(("cmdline", "name", "value"), PARAMETERS)
def test_parameter(machine: Machine, shell: str, cmdline: str, name: str, value: str) -> None:
    machine.write("proc/cmdline", cmdline + "\n")
    lines = f'parse_parameters >/dev/null; printf "%s\\n" "${name}"'
    assert tell(shell, machine, lines) == value


@pytest.mark.parametrize(
    ("text", "centiseconds"), [("0.05 9", "5"), ("12.34 9", "1234"), ("100.00 9", "10000")]
)
def test_clock(machine: Machine, shell: str, text: str, centiseconds: str) -> None:
    machine.write("proc/uptime", f"{text}\n")
    assert tell(shell, machine, 'read_clock; echo "$NOW_CS"') == centiseconds


UUID_HEX = PERSIST_UUID.replace("-", "")
LABEL_HEX = b"ramos-persist".hex()
PROBES = [
    (superblock(), f"ext4 {UUID_HEX} {LABEL_HEX}"),
    (superblock(uuid="00" * 16, label=""), f"ext4 {'00' * 16} "),
    (superblock(label="x" * 16), f"ext4 {UUID_HEX} {'78' * 16}"),
    (luks_header(PERSIST_UUID), f"luks {UUID_HEX} "),
    (luks_header(PERSIST_UUID.upper(), "safe"), f"luks {UUID_HEX} {b'safe'.hex()}"),
    (luks_header(PERSIST_UUID, version=1), f"luks {UUID_HEX} "),
    (fat_header(), "none  "),
    (b"", "none  "),
    (b"short", "none  "),
    (b"\0" * 4096, "none  "),
    (b"\xff" * 4096, "none  "),
]


@pytest.mark.parametrize(("data", "told"), PROBES)
def test_probe(machine: Machine, shell: str, data: bytes, told: str) -> None:
    machine.write("dev/sdx", data)
    lines = 'probe_device "$DEV/sdx"; echo "$FOUND_TYPE $FOUND_UUID $FOUND_LABEL"'
    assert run_verbs(shell, machine.root, lines).stdout.rstrip("\n") == told


def test_probe_of_fat(machine: Machine, shell: str) -> None:
    machine.write("dev/sdx", fat_header())
    lines = 'probe_fat "$DEV/sdx"; echo "$FOUND_TYPE $FOUND_UUID"'
    assert tell(shell, machine, lines) == "fat32 a496452f"


def test_uuid_is_written_the_usual_way(machine: Machine, shell: str) -> None:
    assert tell(shell, machine, f"write_uuid {UUID_HEX}") == PERSIST_UUID


@pytest.mark.parametrize(
    ("name", "wanted"), [("sda", False), ("sda1", True), ("sdb", True), ("sr0", False)]
)
def test_what_can_hold_persist(machine: Machine, shell: str, name: str, wanted: bool) -> None:
    machine.add_disk("sda", {"sda1": superblock()})
    machine.add_disk("sdb", {})
    machine.add_disk("sr0", {})
    lines = f'can_hold_persist "$SYS/class/block/{name}" {name} && echo yes; :'
    assert tell(shell, machine, lines) == ("yes" if wanted else "")


def test_empty_card_reader_is_passed_over_until_it_has_a_card(machine: Machine, shell: str) -> None:
    machine.add_stick()
    machine.write("sys/devices/sda/sda2/size", "0\n")
    lines = """
        prepare_wanted; probe_new_devices; echo $?
        echo 4096 >"$SYS/class/block/sda2/size"; probe_new_devices; echo $?"""
    lines = f"PERSIST_ID=LABEL=ramos-persist; {lines}"
    assert tell(shell, machine, lines) == "1\n0"


def test_each_driver_is_asked_for_once(machine: Machine, shell: str) -> None:
    machine.write("sys/bus/pci/devices/0000:00:01.0/modalias", "pci:v00001B36d0000000D\n")
    machine.write("sys/bus/pci/devices/0000:00:02.0/modalias", "pci:v00001B36d0000000D\n")
    machine.write("sys/bus/usb/devices/1-1/modalias", "usb:v46F4p0001[x]*\n")
    tell(shell, machine, "load_new_hardware pci usb; load_new_hardware pci usb scsi")
    assert machine.read("calls") == "modprobe -a -q pci:v00001B36d0000000D usb:v46F4p0001[x]*\n"


def test_old_ide_has_its_turn_when_nothing_else_was_found(machine: Machine, shell: str) -> None:
    machine.write("sys/bus/pci/devices/0000:00:01.1/modalias", "pci:v8086d7010bc01sc01i80\n")
    machine.write("sys/bus/pci/devices/0000:00:02.0/modalias", "pci:v8086d2922bc01sc06i01\n")
    machine.add_disk("sdb", {})
    tell(shell, machine, "load_new_hardware pci")
    assert machine.read("calls") == "modprobe -a -q pci:v8086d2922bc01sc06i01\n"
    machine.write("calls", "")
    tell(shell, machine, "PERSIST_ID=LABEL=x; find_persist || :")
    assert machine.read("calls").count("modprobe -a -q pci:v8086d7010bc01sc01i80") == 1


def test_the_screen_that_the_firmware_left_comes_first(machine: Machine, shell: str) -> None:
    """Alpine's kernels have no driver for it built in: nobody would see a question."""
    machine.write("sys/bus/pci/devices/0000:00:01.0/modalias", "pci:v00001B36d0000000D\n")
    tell(shell, machine, "load_drivers; wait")
    assert "screen_driver" not in machine.read("calls")
    machine.write("calls", "")
    machine.write("sys/bus/platform/devices/simple-framebuffer.0/modalias", "platform:x\n")
    tell(shell, machine, "load_drivers; wait")
    assert machine.read("calls").splitlines()[0] == "modprobe -a -q screen_driver"


def test_keymap_is_loaded_where_there_is_one(machine: Machine, shell: str) -> None:
    machine.write("lib/keymap.bmap", "bkeymap")
    lines = 'loadkmap() { cat >"$R/loaded"; }; load_drivers; wait'
    tell(shell, machine, lines)
    assert machine.read("loaded") == "bkeymap"


def test_kernel_that_wants_signatures_gets_them_back(machine: Machine, shell: str) -> None:
    machine.write("lib/modules/6.1/fs/overlay.ko", "module")
    machine.write("lib/modules/6.1/fs/overlay.ko.sig", "+signature")
    tell(shell, machine, "MODULES=$R/lib/modules; load_drivers; wait")
    assert machine.read("lib/modules/6.1/fs/overlay.ko") == "module+signature"
    assert machine.read("calls").count("base_driver") == 2
    machine.write("calls", "")
    tell(shell, machine, "MODULES=$R/lib/modules; load_drivers; wait")
    assert machine.read("lib/modules/6.1/fs/overlay.ko") == "module+signature"
    assert machine.read("calls").count("base_driver") == 1


def test_greeting_says_nothing_when_all_is_well(machine: Machine, shell: str) -> None:
    tell(shell, machine, "write_greeting")
    assert not (machine.root / "run/ramos/motd").exists()


def test_shell_of_last_resort_says_why_and_how_to_go_on(machine: Machine, shell: str) -> None:
    source = Path(__file__).parents[3] / "initramfs-hooks/lib/11-failure.sh"
    machine.write("sys/class/tty/console/active", "tty0 ttyS0\n")
    lines = f"""
        . {source}
        PROC=$R/proc SYS=$R/sys DEV=$R/dev BREAK="" CODER={source.with_name("code.awk")}
        RAMOS_RUN_DIR=$R/run/ramos RAMOS_BOOT_LOG=$R/run/ramos/boot.log
        busybox() {{ [ "$*" != "--install -s" ] || NAMES=all; }}
        NAMES=few
        setsid() {{ echo "shell with $NAMES names on $(readlink /proc/self/fd/0): $*" >>$R/calls; }}
        try=0
        verb() {{ WHY="the stick is gone"; try=$((try + 1)); [ $try = 2 ]; }}
        run_step persist verb
        echo "tries: $try" """
    assert tell(shell, machine, lines) == "tries: 2"
    for console in ("tty0", "ttyS0"):
        text = machine.read(f"dev/{console}")
        assert "RAMOS stopped at step 'persist': the stick is gone" in text
        assert "Put the stick into another port" in text
        assert "poweroff -f" in text
    assert "persist shell: the stick is gone" in machine.read("run/ramos/boot.log")
    assert f"shell with all names on {machine.root}/dev/ttyS0: -c sh -l" in machine.read("calls")
    machine.write("sys/class/tty/console/active", "ttyS0 tty0\n")
    machine.write("sys/class/tty/tty0/active", "tty1\n")
    assert tell(shell, machine, "find_console; echo $CONSOLE") == "tty1"
    (machine.root / "sys/class/tty/console/active").unlink()
    assert tell(shell, machine, "find_console; echo $CONSOLE") == "console"


def test_passphrase_is_asked_for_on_every_console(machine: Machine, shell: str) -> None:
    source = Path(__file__).parents[3] / "initramfs-hooks/lib/50-luks.sh"
    machine.write("sys/class/tty/console/active", "tty0 ttyS0\n")
    masters, slaves, modes = [], [], []
    for name in ("tty0", "ttyS0"):
        master, slave = os.openpty()
        slaves.append(slave)
        (machine.root / "dev" / name).symlink_to(os.ttyname(slave))
        masters.append(master)

    def type_when_asked() -> None:
        for master in masters:
            seen = b""
            while b"Passphrase: " not in seen:
                seen += os.read(master, 1000)
        modes.append((machine.root / "run/ramos/answers").stat().st_mode)
        os.write(masters[1], b"two 'words' \\n $HOME\n")

    lines = f". {source}\nask_passphrase 'Passphrase: '\nprintf '<%s>' \"$PASSPHRASE\""
    with ThreadPoolExecutor() as pool:
        typist = pool.submit(type_when_asked)
        assert tell(shell, machine, lines) == "<two 'words' \\n $HOME>"
        typist.result()
    assert b"words" not in os.read(masters[1], 1000), "what is typed is not shown"
    assert modes == [stat.S_IFIFO | 0o600], "nobody else reads what is typed"
    assert not (machine.root / "run/ramos/answers").exists()
    assert all(termios.tcgetattr(slave)[3] & termios.ECHO for slave in slaves), "later words are"


def test_nothing_is_taken_from_the_environment(machine: Machine, shell: str) -> None:
    names = "MODE ASKED_MODE ASKED_GENERATION LUKS_ID TORAM BREAK SKIPPED UPPER_LOADER REAL_INIT"
    assignments = " ".join(f"{name}=evil" for name in names.split())
    lines = " ".join(f"$( echo x${name} )" for name in names.split())
    script = f"{assignments}; export {names}\n{sourcing(machine)}\necho {lines}"
    done = subprocess.run(
        [*SHELLS[shell], "-c", script], capture_output=True, text=True, check=True
    )
    assert "evil" not in done.stdout


def sourcing(machine: Machine) -> str:
    hooks = shlex.quote(str(Path(__file__).parents[3] / "initramfs-hooks/lib"))
    return f"R={machine.root}\nset -u\nfor f in {hooks}/*.sh; do . $f; done"


def test_alpine_has_every_applet_of_the_boot() -> None:
    assert set(initramfs.APPLETS.split()) <= {*alpine_root.list_applets(), "busybox"}


def test_sealed_files_are_measured_in_one_process(shell: str, machine: Machine) -> None:
    for name in ("one", "two"):
        machine.write(name, name)
        machine.write(f"{name}.verity", f"digest-of-{name}")
    lines = """
    measure_files "$R/one" "$R/two"
    fsverity() { echo "asked again"; }
    find_measure "$R/two"
    echo "$MEASURE"
    """
    assert tell(shell, machine, lines) == "digest-of-two"


@pytest.mark.parametrize(
    ("active", "console"), [("ttyS0 tty0", "tty1"), ("tty0 ttyS0", "ttyS0"), ("ttyS0", "ttyS0")]
)
def test_a_shell_opens_where_it_has_job_control(
    shell: str, machine: Machine, active: str, console: str
) -> None:
    machine.write("sys/class/tty/console/active", f"{active}\n")
    machine.write("sys/class/tty/tty0/active", "tty1\n")
    assert tell(shell, machine, 'find_console; echo "$CONSOLE"') == console

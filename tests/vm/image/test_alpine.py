"""The real Alpine in a machine: its boot, what a save keeps of it, which way each entry goes.

The image is made of Alpine's own packages (tests/labs/alpine.py says which are not).
"""

from pathlib import Path

from ramos.boot import initramfs
from ramos.linux import kmod
from ramos.vm.machine import Machine
from tests.labs import alpine_mirror, donor, kernelmirror
from tests.labs.alpine_mirror import Mirror
from tests.vm.boot.test_boot import await_init, read_boot
from tests.vm.conftest import USER, Boot, ask_seals, come_up

REPOSITORY = Path(__file__).resolve().parents[3]
SOURCE = f"http://10.0.2.2:{{}}/{alpine_mirror.BRANCH}/main"
# Whoever is told to end says so: on what is saved, when it was told before the save.
ENDING = "trap 'echo told >/root/told; exit' TERM; while :; do sleep 1; done"
BAD_SERVICES = "for l in sysinit boot default; do rc-status $l; done | grep -E 'stopped|crashed'"


def use_mirror(machine: Machine, port: int) -> None:
    """The only mirror that the machine knows; it has had its key and its address from the start."""
    machine.check_shell(f"echo {SOURCE.format(port)} >/etc/apk/repositories; apk update")


def check_boot(machine: Machine) -> None:
    """Alpine's own kernel, init and C library; nothing failed, nothing listens."""
    come_up(machine)
    seen = read_boot(machine)
    assert (seen["mode"], seen["generation"], seen["upper"]) == ("default", "1", "zram")
    assert machine.check_shell("cat /proc/1/comm") == "init"
    assert machine.check_shell("ls -l /proc/1/exe").endswith("/bin/busybox")
    assert machine.check_shell("uname -r").endswith("-virt")
    assert "linux-virt" in machine.check_shell("cat /etc/apk/world").split()
    machine.check_shell("grep -q /lib/ld-musl-x86_64.so.1 /proc/1/maps")
    machine.check_shell("test ! -e /boot/initramfs-virt")
    assert machine.shell(BAD_SERVICES) == (1, "")
    assert machine.shell("dmesg -r | grep '^<[0-3]>'") == (1, "")
    listening = machine.check_shell("netstat -lntu").splitlines()
    assert [line for line in listening if line.startswith(("tcp", "udp"))] == []


def change(machine: Machine, port: int) -> None:
    """A save by hand, with a package that apk fetched; then what only the way down can save."""
    use_mirror(machine, port)
    machine.check_shell("apk add curl", 300)
    machine.check_shell("curl --version && ramos commit -m curl")
    assert "unsealed" not in ask_seals(machine, 2)["layer"]
    machine.check_shell(f"cd /home/{USER}; echo kept >note; ln -s note link; ln note twin")
    machine.check_shell("rm /etc/sysctl.conf; rm -r /etc/modprobe.d; mkdir /etc/modprobe.d")
    machine.check_shell("apk add xz-libs mdev-conf bridge")
    machine.write_file("/tmp/ending", ENDING.encode())
    machine.check_shell("setsid sh /tmp/ending </dev/null >/dev/null 2>&1 &")


def check_kept(machine: Machine) -> None:
    """Files, links, deletions, packages; and nobody wrote during the save."""
    assert machine.check_shell(f"cd /home/{USER}; cat note link twin") == "kept\nkept\nkept"
    assert machine.check_shell(f"readlink /home/{USER}/link") == "note"
    assert machine.check_shell(f"stat -c %h /home/{USER}/note") == "2"
    machine.check_shell('test ! -e /etc/sysctl.conf && test -z "$(ls /etc/modprobe.d)"')
    machine.check_shell("curl --version && apk info -e curl bridge && apk audit --system")
    assert machine.check_shell("cat /root/told") == "told"
    assert "curl" in machine.check_shell("cat /etc/apk/world").split()


def test_alpine_from_uefi_to_a_save_and_back(alpine_disk: Path, lab: Mirror, boot: Boot) -> None:
    options = {"firmware": "uefi", "network": True, "extra": ("-no-reboot",)}
    with kernelmirror.serve_folder(lab.path) as port, boot(alpine_disk, **options) as machine:
        check_boot(machine)
        change(machine, port)
        # init's own way down: inittab, the runlevel `shutdown`, the save.
        machine.qmp.run_monitor("sendkey ctrl-alt-delete")
        machine.expect("Terminating remaining processes")
        machine.expect(r"RAMOS: saved as generation 3")
        machine.await_end()
    with boot(alpine_disk, firmware="bios") as machine:
        machine.pick_entry("default")
        assert await_init(machine) == ("default", 3)
        come_up(machine)
        check_kept(machine)
        for entry, generation in (("backup", 2), ("clean", 0)):
            machine.qmp.execute("system_reset")
            machine.pick_entry(entry)
            assert await_init(machine) == (entry, generation)


def test_mkinitfs_would_take_every_module_of_the_builder() -> None:
    """The globs of the feature file against the real kernel's tree, read as mkinitfs reads them."""
    root = donor.provide_root()
    folder = next((root / "lib/modules").iterdir())
    feature = REPOSITORY / "initramfs-hooks/mkinitfs/features.d/ramos.modules"
    lines = [line for line in feature.read_text().split("\n") if line and line[0] != "#"]
    chosen: set[str] = set()
    for line in lines:
        paths = list(folder.glob(line))
        found = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
        chosen |= {kmod.module_name(file.name) for file in found if ".ko" in file.name}
    modules = kmod.load(root, folder.name)
    lists = [value for name, value in vars(initramfs).items() if name.endswith("_MODULES")]
    wanted = {kmod.normalize(word) for word in " ".join(lists).split()}
    assert wanted & modules.files.keys() <= modules.close(chosen)

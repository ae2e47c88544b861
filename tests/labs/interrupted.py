"""A power cut during a change of kernels, and what the next boot makes of it.

Owns: a stick as such a cut leaves it, and the check that nothing of it is left. The states that
real cuts leave are replayed elsewhere (tests/crash); here it counts that a boot looks after them.
"""

from ramos.vm.machine import Machine

PACKAGE = "linux-image-9.9=1"
# A kernel's directory without its end, the journal that names it, and a FAT that is in use.
INTERRUPT = f"""
from ramos.boot import esp
from ramos.packages import journal
from ramos.layout import Places
from ramos.packages.running import find_site
from ramos.booted import read_boot
site = find_site()
begun = journal.Journal(packages=("{PACKAGE}",), kernels=("9.9",))
with site.open_esp(True) as place:
    journal.begin(site.persist, begun)
    (place / "kernels/9.9").mkdir()
    (place / "kernels/9.9/vmlinuz").write_bytes(b"half of it")
with esp.find_esp(read_boot(Places())).open("r+b", buffering=0) as device:
    device.seek(esp.STATE_AT)
    device.write(bytes([esp.IN_USE]))
"""
LOOK = """
from ramos.boot import esp, kernels
from ramos.layout import Places
from ramos.packages.running import find_site
from ramos.booted import read_boot
node = esp.find_esp(read_boot(Places()))
print(node.open("rb").read(esp.STATE_AT + 1)[esp.STATE_AT] & esp.IN_USE)
with find_site().open_esp(False) as place:
    print(kernels.list_all(place) == kernels.list_complete(place))
"""


def run_python(machine: Machine, program: str) -> str:
    """Run a program with the modules of RAMOS; what it printed."""
    # Not in /run: its folder ramos would be taken for the package.
    machine.write_file("/tmp/program.py", program.encode())
    return machine.check_shell("PYTHONPATH=/usr/lib/ramos python3 /tmp/program.py")


def interrupt(machine: Machine) -> None:
    """Leave what a cut would leave."""
    run_python(machine, INTERRUPT)


def check_recovered(machine: Machine) -> None:
    """The boot has put it right, in the background, and says so."""
    machine.check_shell("while [ -e /persist/packages/transaction ]; do sleep 1; done", 240)
    told = f"RAMOS: undid what was interrupted: {PACKAGE}"
    machine.check_shell(f"until grep -qx '{told}' /run/ramos/motd; do sleep 1; done", 60)
    assert run_python(machine, LOOK).split() == ["0", "True"]

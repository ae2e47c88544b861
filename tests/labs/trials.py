"""A kernel on trial that fails as a test wants: the running one, with a script in its initramfs."""

from ramos.vm.machine import Machine
from tests.labs.interrupted import run_python

SET_TRIES = """
from dataclasses import replace
from ramos.boot import esp
from ramos.packages.running import find_site
with find_site().open_esp(True) as place:
    esp.write_env(place, replace(esp.read_env(place), tries={}))
"""
SCRIPT = "/tmp/99-test.sh"
START = f"""
from pathlib import Path
from ramos.linux import cpio
from ramos.boot import kernels
from ramos.packages import journal
from ramos.store.images import find_modules
from ramos.packages.running import find_site
site = find_site()
archive = cpio.Archive()
for folder in ("lib", "lib/ramos"):
    archive.add_folder(folder)
archive.add_file("lib/ramos/99-test.sh", Path("{SCRIPT}").read_bytes())
early = archive.render(0)
vmlinuz, initramfs = Path("/tmp/vmlinuz"), Path("/tmp/initramfs")
with site.open_esp(True) as place:
    folder = place / "kernels" / site.running
    vmlinuz.write_bytes((folder / "vmlinuz").read_bytes())
    early += bytes(-len(early) % 512)
    initramfs.write_bytes(early + (folder / "initramfs").read_bytes())
    modules = find_modules(site.persist, site.running)
    files = kernels.KernelFiles(site.running, vmlinuz, initramfs, modules)
    kernels.write_kernel(place, f"{{site.running}}+2", files)
    journal.start_trials(place, (f"{{site.running}}+2",))
"""


def set_tries(machine: Machine, tries: int) -> None:
    """How often the kernel on trial is tried from now on."""
    run_python(machine, SET_TRIES.format(tries))


def start_failing(machine: Machine, script: str, tries: int) -> None:
    """Try the running kernel again, as KERNEL+2; the script comes after all that init reads."""
    machine.write_file(SCRIPT, script.encode())
    run_python(machine, START)
    set_tries(machine, tries)

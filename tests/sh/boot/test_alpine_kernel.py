"""The drivers of a boot, in the kernel that Alpine ships: by their names of today."""

import subprocess
from pathlib import Path

import pytest

from ramos.boot import initramfs
from ramos.linux import kmod
from tests.conftest import REPOSITORY
from tests.labs import alpine_root
from tests.sh.boot.test_mkinitfs import HOOKS, LISTS

# What linux-virt leaves out, or has in itself as code that is no module: its crc and sha algorithms
# are the kernel's own library since 6.18, its chipsets those of virtual machines.
ABSENT = {
    "base": {"crc32c_intel", "crc32c_generic"},
    "storage": {"crc64_rocksoft_generic", "crct10dif_generic"},
    "luks": {"sha256_ssse3", "sha256_generic"},
    "watchdog": {"lpc_ich", "i2c_i801", "sp5100_tco", "wdat_wdt", "hpwdt"},
}


@pytest.fixture(scope="module")
def modules() -> kmod.Modules:
    """The modules of the lab's Alpine."""
    root = alpine_root.provide_root()
    folders = list((root / "lib/modules").glob("*"))
    if not folders:
        pytest.skip("RAMOS_ALPINE_ROOT has no kernel")
    return kmod.load(root, folders[0].name)


@pytest.mark.parametrize("name", [name for name in LISTS if name != "keyboard"])
def test_names_of_the_lists(modules: kmod.Modules, name: str) -> None:
    assert modules.missing(set(LISTS[name].split())) == ABSENT.get(name, set())


def test_whoever_has_to_type_sees_the_question(modules: kmod.Modules, tmp_path: Path) -> None:
    """What a screen under UEFI needs, with all that it depends on; fb has the console in it."""
    archive = tmp_path / "initramfs"
    root = modules.folder.parents[2]
    initramfs.build_initramfs(
        Path("/"), modules.folder.name, archive, modules_root=root, compress="none"
    )
    listed = subprocess.run(
        ["cpio", "-it"], input=archive.read_bytes(), capture_output=True, check=True
    )
    places = map(Path, listed.stdout.decode().splitlines())
    inside = {kmod.normalize(place.stem) for place in places if place.suffix == ".ko"}
    needed = {"drm", "drm_kms_helper", "drm_shmem_helper", "drm_client_lib", "fb", "simpledrm"}
    assert needed <= inside
    keyboards = {"hid_generic", "usbhid", "virtio_input"}
    assert keyboards <= inside


def test_mkinitfs_is_told_the_same_drivers(modules: kmod.Modules) -> None:
    """Each module of the lists lies at a place that the feature of mkinitfs names."""
    lines = (HOOKS / "mkinitfs/features.d/ramos.modules").read_text().splitlines()
    places = [line for line in lines if not line.startswith("#")]
    lost = []
    for name in set(" ".join(LISTS.values()).split()) & modules.files.keys():
        path = Path(modules.files[name])
        if not any(path.match(place) or path.is_relative_to(place) for place in places):
            lost.append(name)
    assert lost == []


def test_each_name_stands_in_the_list_as_it_is(modules: kmod.Modules) -> None:
    """docs/alpine-kernel.txt; its last column is what this kernel has."""
    lines = (REPOSITORY / "docs/alpine-kernel.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    hardware = f"{initramfs.HARDWARE_MODULES} {initramfs.OTHER_MODULES}"
    names = set(" ".join([*LISTS.values(), hardware]).split())
    assert {row[0] for row in rows} == names
    assert len(rows) == len(names)
    wrong = []
    for name, _, lts, virt in rows:
        place = kmod.normalize(name)
        here = "m" if place in modules.files else "y" if place in modules.builtin else "-"
        if virt != here or lts not in "my-":
            wrong.append(name)
    assert wrong == []

"""What lies on a fresh stick: the files of the ESP and of persist.

Owns: the names and the first content of both partitions. Refuses: partition tables and the making
of the parts themselves. Invariant: generation 1 names the base images and no layer, so a stick
whose first save fails, or is undone, is the stick as it was made.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.boot import grubenv, menu, titles
from ramos.booted import ToRam
from ramos.image import grub, partitions, theme
from ramos.image.common_setup import USER_ID
from ramos.image.plan import Plan
from ramos.linux import fs, verity
from ramos.packages.build import MICROCODE_DIR
from ramos.store import generation

FIRST_GENERATION = 1


@dataclass(frozen=True)
class Parts:
    """Everything that goes onto a stick, as files of the cache."""

    kernel: str
    vmlinuz: Path
    initramfs: Path
    rootfs: Path
    modules: Path
    firmware: Path
    # By the package's name; all of it stands at the front of the initramfs already.
    microcode: Mapping[str, bytes]

    @property
    def base_images(self) -> tuple[tuple[generation.Kind, str, Path], ...]:
        """Kind, name on persist and file of each base image."""
        return (
            ("rootfs", layout.ROOTFS_IMAGE, self.rootfs),
            ("modules", layout.modules_image(self.kernel), self.modules),
            ("firmware", layout.FIRMWARE_IMAGE, self.firmware),
        )


def describe_base(parts: Parts) -> tuple[generation.StoredFile, ...]:
    """The base images as a generation names them."""
    files = []
    for kind, name, path in parts.base_images:
        digests = verity.digest_file(path)
        files.append(
            generation.StoredFile(kind, name, digests.size_bytes, digests.sha256, digests.verity)
        )
    return tuple(files)


def fill_persist(
    plan: Plan,
    parts: Parts,
    files: tuple[generation.StoredFile, ...],
    identity: partitions.Identifiers,
    directory: Path,
    epoch: int,
) -> None:
    """Lay out persist as a directory; the images are hard links into the cache."""
    for name in (layout.LAYERS_DIR, layout.GENERATIONS_DIR, layout.PINS_DIR):
        (directory / name).mkdir(parents=True)
    for name in (layout.USER_DIR, layout.LOG_DIR, layout.PACKAGES_DIR):
        (directory / name).mkdir()
    for name, data in parts.microcode.items():
        place = directory / layout.PACKAGES_DIR / MICROCODE_DIR / f"{name}.img"
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(data)
    os.chown(directory / layout.USER_DIR, USER_ID, USER_ID)
    (directory / layout.LOG_DIR).chmod(0o700)
    for _, name, path in parts.base_images:
        path.chmod(0o600)  # there are password hashes in it, and users on the stick
        (directory / name).hardlink_to(path)
    first = generation.Generation(
        FIRST_GENERATION, 0, epoch, parts.kernel, "build", f"{plan.base} {plan.profile}", files
    )
    place = directory / layout.generation_path(FIRST_GENERATION)
    place.write_bytes(generation.seal(first))
    if plan.swap_bytes:
        partitions.make_swapfile(directory / layout.SWAPFILE, plan.swap_bytes, identity.hash_seed)


def make_menu(plan: Plan, identity: partitions.Identifiers) -> menu.Menu:
    """What the boot menu tells the kernel of this stick."""
    unlock = (f"ramos.luks=UUID={identity.luks}",) if plan.encrypt else ()
    asked = () if plan.toram == ToRam.LATER else (f"ramos.toram={plan.toram}",)
    parameters = (*menu.Menu.parameters, *unlock, *asked)
    return menu.Menu(f"UUID={identity.persist}", parameters, plan.consoles)


def fill_esp(
    plan: Plan, parts: Parts, identity: partitions.Identifiers, work: Path
) -> tuple[dict[str, Path], grub.BiosGrub]:
    """The files of the ESP (name -> source), and GRUB for BIOS, which has no file there."""
    early = work / "early.cfg"
    early.write_text(
        menu.render_early(grub.read_template(menu.EARLY_TEMPLATE)),
        encoding="ascii",
    )
    efi = work / "grub.efi"
    grub.make_efi(efi, early)
    config = work / "grub.cfg"
    config.write_text(
        menu.render_menu(
            grub.read_template(menu.MENU_TEMPLATE),
            make_menu(plan, identity),
        ),
        encoding="ascii",
    )
    env = work / "grubenv"
    env.write_bytes(grubenv.render(grubenv.initial(parts.kernel, FIRST_GENERATION)))
    said = work / "titles"
    said.write_bytes(titles.render("", ""))
    folder = f"{layout.KERNELS_DIR}/{parts.kernel}"
    sums, complete = work / "sha256", work / "complete"
    lines = (("vmlinuz", parts.vmlinuz), ("initramfs", parts.initramfs))
    sums.write_text("".join(f"{fs.hash_file(path)}  {name}\n" for name, path in lines))
    complete.touch()
    names = {
        grub.EFI_NAME: efi,
        layout.GRUB_CFG: config,
        layout.GRUBENV: env,
        layout.MENU_TITLES: said,
        f"{folder}/vmlinuz": parts.vmlinuz,
        f"{folder}/initramfs": parts.initramfs,
        f"{folder}/sha256": sums,
        f"{folder}/complete": complete,
        **theme.make_theme(grub.read_template(theme.TEMPLATE), work),
    }
    return names, grub.make_bios(work, early, partitions.BIOS_START_BYTES)

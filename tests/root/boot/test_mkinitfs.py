"""The /init of an initramfs that Alpine's mkinitfs made, as far as it goes without a kernel."""

import shutil
import subprocess
from pathlib import Path

from ramos import layout
from tests.conftest import REPOSITORY


def test_the_init_of_ramos_finds_its_files_where_it_looks(tmp_path: Path) -> None:
    hooks = tmp_path / "usr/share/ramos/initramfs-hooks"
    shutil.copytree(REPOSITORY / "initramfs-hooks", hooks)
    environment = tmp_path / "usr/lib/ramos/ramos/layout.env"
    environment.parent.mkdir(parents=True)
    shutil.copy(layout.ENV_FILE, environment)
    for folder in ("bin", "sbin", "etc", "lib"):
        (tmp_path / folder).mkdir()
    shutil.copy("/usr/bin/busybox", tmp_path / "bin/busybox")
    # In place of the init that would look for a stick.
    (hooks / "init").write_text("#!/bin/sh\nls /lib/ramos\n")
    argv = ["chroot", str(tmp_path), "/usr/share/ramos/initramfs-hooks/mkinitfs/init"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    libraries = {path.name for path in (hooks / "lib").glob("*.sh")}
    assert {"layout.env", *libraries} <= set(done.stdout.split()), done.stderr

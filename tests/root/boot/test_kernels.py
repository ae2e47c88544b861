"""A kernel that does not fit on the ESP."""

import subprocess
from pathlib import Path

import pytest

from ramos.boot import kernels
from ramos.boot.kernels import KernelFiles
from ramos.errors import RamosError


@pytest.mark.usefixtures("private_mounts")
def test_a_full_esp_leaves_nothing_behind(tmp_path: Path) -> None:
    esp = tmp_path / "esp"
    esp.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", esp], check=True)
    (esp / "kernels/6.1.0-1-test").mkdir(parents=True)
    (esp / "kernels/6.1.0-1-test/complete").write_text("6.1.0-1-test\n")
    for name, size in {"vmlinuz": 1 << 19, "initramfs": 1 << 20, "modules": 1}.items():
        (tmp_path / name).write_bytes(bytes(size))
    version = "6.1.0-2-test"
    files = KernelFiles(version, *(tmp_path / n for n in ("vmlinuz", "initramfs", "modules")))
    with pytest.raises(RamosError, match="It was taken away again") as raised:
        kernels.write_kernel(esp, version, files)
    assert "no longer need" in raised.value.hint
    assert kernels.list_all(esp) == ["6.1.0-1-test"]
    assert kernels.list_complete(esp) == ["6.1.0-1-test"]

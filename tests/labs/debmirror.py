"""A Debian mirror made for a test: packages built by dpkg-deb, an index, a signed Release file."""

import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from ramos.formats import deb
from ramos.formats.apk_sign import make_key
from ramos.formats.deb_package import render_packages, render_release
from ramos.formats.openpgp import make_public_key, sign_detached
from ramos.linux.fs import hash_file

KEY_BITS = 2048


def build_deb(
    output: Path,
    fields: Mapping[str, str],
    files: Mapping[str, bytes | Path],
    scripts: Mapping[str, str] | None = None,
    compression: str = "xz",
) -> Path:
    """One package, by an independent path: dpkg-deb."""
    tree = output.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    (tree / "DEBIAN").mkdir(parents=True)
    control = {"Maintainer": "Test <test@localhost>", "Description": "a test", **fields}
    text = "".join(f"{key}: {value}\n" for key, value in control.items())
    (tree / "DEBIAN/control").write_text(text)
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    for name, text in (scripts or {}).items():
        (tree / "DEBIAN" / name).write_text(text)
        (tree / "DEBIAN" / name).chmod(0o755)
    argv = ["dpkg-deb", "--root-owner-group", f"-Z{compression}", "-b", str(tree), str(output)]
    subprocess.run(argv, check=True, capture_output=True)
    return output


class Mirror:
    """A flat repository with its own key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True)
        self.key = folder.parent / f"{folder.name}-key"
        make_key(self.key, KEY_BITS)
        self.keyring = folder.parent / f"{folder.name}.gpg"
        self.keyring.write_bytes(make_public_key(self.key, "Test mirror"))

    def add(
        self, fields: Mapping[str, str], files: Mapping[str, bytes | Path], **more: object
    ) -> Path:
        """Build a package into the mirror; `publish` makes it known."""
        name, version, arch = (fields[k] for k in ("Package", "Version", "Architecture"))
        output = self.folder / f"{name}_{version}_{arch}.deb"
        return build_deb(output, fields, files, **more)  # type: ignore[arg-type]

    def publish(self, key: Path | None = None, told: Mapping[str, str] | None = None) -> None:
        """Write and sign the index of what is there; `told` are its lies about every package."""
        entries = []
        for path in sorted(self.folder.glob("*.deb")):
            package = deb.read_package(path)
            fields = {**package.fields, **(told or {})}
            entries.append((path.name, fields, path.stat().st_size, hash_file(path)))
        self.sign(render_packages(entries), key)

    def sign(self, packages: bytes, key: Path | None = None) -> None:
        """Make this the index."""
        now = int(time.time())
        release = render_release({"Packages": packages}, now, origin="Test")
        (self.folder / "Packages").write_bytes(packages)
        (self.folder / "Release").write_bytes(release)
        (self.folder / "Release.gpg").write_text(sign_detached(key or self.key, release, now))

    @property
    def source(self) -> str:
        """The lines for sources.list.d."""
        return f"Types: deb\nURIs: file:{self.folder}\nSuites: ./\nSigned-By: {self.keyring}\n"

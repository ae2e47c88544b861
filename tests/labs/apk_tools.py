"""What the tests of Alpine packages share: keys, trees, and packages made by other programs."""

import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

from ramos.formats import apk_sign

KEY_BITS = 2048


def make_keys(directory: Path, name: str = "test.rsa") -> tuple[Path, Path]:
    """A private key, and a directory of public keys that holds its other half only."""
    private = directory / name
    public = apk_sign.make_key(private, KEY_BITS)
    keys = directory / f"keys-{name}"
    keys.mkdir()
    shutil.copy(public, keys)
    return private, keys


def make_tree(root: Path) -> Path:
    """A tree with everything that is awkward in a package."""
    binary = root / "usr/bin/tool"
    binary.parent.mkdir(parents=True)
    binary.write_bytes(b"#!/bin/sh\n")
    binary.chmod(0o4755)
    os.link(binary, root / "usr/bin/tool-again")
    (root / "usr/bin/link").symlink_to("tool")
    (root / "usr/bin/absolute").symlink_to("/usr/bin//tool")
    (root / "empty").mkdir(mode=0o700)
    (root / "empty-file").touch()
    long_name = root / ("ä" * 100) / ("n" * 200)
    long_name.parent.mkdir()
    long_name.write_text("deep")
    (root / "long-link").symlink_to("k" * 300)
    (root / os.fsdecode(b"not-utf8-\xff\xfe")).write_text("bytes")
    (root / "MINIX-NEO Z83-4.txt, v1").write_text("spaces and commas")
    (root / "big").write_bytes(bytes(range(256)) * 8000)
    if os.geteuid() == 0:
        os.chown(root / "empty-file", 100, 101)
    return root


def list_tree(root: Path) -> dict[str, tuple[object, ...]]:
    """All that a package keeps of a tree (times aside), to compare two of them."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, directories, files in os.walk(root):
        for path in (Path(folder, name) for name in directories + files):
            state = path.lstat()
            content: object = None
            if stat.S_ISLNK(state.st_mode):
                content = os.readlink(path)  # noqa: PTH115  # exactly as stored
            elif stat.S_ISREG(state.st_mode):
                content = hashlib.sha256(path.read_bytes()).digest()
            links = 0 if stat.S_ISDIR(state.st_mode) else state.st_nlink
            owner = (state.st_uid, state.st_gid) if os.geteuid() == 0 else ()
            found[str(path.relative_to(root))] = (state.st_mode, owner, links, content)
    return found


def run_tool(*argv: str | Path, cwd: Path | None = None, stdin: bytes = b"") -> bytes:
    """Run another program, for a path to the same bytes that is not ours."""
    return subprocess.run(argv, cwd=cwd, input=stdin, capture_output=True, check=True).stdout


def build_by_hand(tree: Path, info: str, key: Path, output: Path, digest: str = "sha1") -> bytes:
    """A package made by GNU tar, gzip and openssl; returns its control member.

    Only the checksum records are put in with tarfile: GNU tar cannot write them.
    """
    listing = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    tarball = run_tool(
        *("tar", "--format=posix", "--no-recursion", "--owner=root:0", "--group=root:0"),
        *("--xattrs", "--null", "--files-from=-", "--create", "--file=-"),
        cwd=tree,
        stdin=b"\0".join(os.fsencode(name) for name in listing),
    )
    data = run_tool("gzip", "-9n", stdin=_add_checksums(tarball))
    full = f"{info}datahash = {hashlib.sha256(data).hexdigest()}\n"
    control = run_tool("gzip", "-9n", stdin=cut_tar({".PKGINFO": full.encode()}))
    signature = run_tool("openssl", "dgst", f"-{digest}", "-sign", key, stdin=control)
    kind = {"sha1": "RSA", "sha256": "RSA256", "sha512": "RSA512"}[digest]
    entry = {f".SIGN.{kind}.{key.name}.pub": signature}
    output.write_bytes(run_tool("gzip", "-9n", stdin=cut_tar(entry)) + control + data)
    return control


def cut_tar(entries: dict[str, bytes]) -> bytes:
    """GNU tar of some files, without the blocks of zeros at its end."""
    buffer = b""
    for name, content in entries.items():
        header = tarfile.TarInfo(name)
        header.size = len(content)
        padding = bytes(-len(content) % tarfile.BLOCKSIZE)
        buffer += header.tobuf(tarfile.USTAR_FORMAT) + content + padding
    return buffer


def _add_checksums(tarball: bytes) -> bytes:
    output = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(tarball), errors="surrogateescape") as source,
        tarfile.open(
            fileobj=output, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
        ) as target,
    ):
        for header in source:
            file = source.extractfile(header) if header.isreg() else None
            content = file.read() if file else os.fsencode(header.linkname)
            if header.isreg() or header.issym():
                checksum = hashlib.sha1(content).hexdigest()
                header.pax_headers = {**header.pax_headers, "APK-TOOLS.checksum.SHA1": checksum}
            target.addfile(header, io.BytesIO(content) if file else None)
    return output.getvalue()

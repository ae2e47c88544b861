"""The initramfs builder: the archive, libraries, modules and what is in the whole."""

import gzip
import lzma
import struct
import subprocess
from pathlib import Path

import pytest

from ramos.boot import initramfs
from ramos.errors import RamosError, UsageError
from ramos.linux import cpio, elf, kmod

KERNEL = "6.1.0-1-amd64"
DEPENDENCIES = {
    "ext4": ("fs/ext4/ext4.ko.xz", ["mbcache"]),
    "mbcache": ("fs/mbcache.ko.gz", []),
    "squashfs": ("fs/squashfs/squashfs.ko.zst", []),
    "overlay": ("fs/overlayfs/overlay.ko", []),
    "crc32c_generic": ("crypto/crc32c_generic.ko", []),
    "xhci_pci": ("drivers/usb/host/xhci-pci.ko", ["usbcore"]),
    "usbcore": ("drivers/usb/core/usbcore.ko", []),
    "usbhid": ("drivers/hid/usbhid/usbhid.ko", ["hid"]),
    "hid": ("drivers/hid/hid.ko", []),
    "sound": ("sound/soundcore.ko", []),
}
ALIAS = "alias crypto-soft soundcore"


def read_archive(data: bytes) -> dict[str, tuple[int, bytes]]:
    """path -> (mode, data) of a newc archive, read independently of the writer."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + i * 8 : at + 14 + i * 8], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        start = at + (110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[start : start + fields[6]])
        at = start + (fields[6] + 3) // 4 * 4


def compress(data: bytes, suffix: str) -> bytes:
    if suffix == ".xz":
        return lzma.compress(data)
    if suffix == ".gz":
        return gzip.compress(data)
    if suffix == ".zst":
        return subprocess.run(["zstd", "-qc"], input=data, stdout=-1, check=True).stdout
    return data


@pytest.fixture
def modules_root(tmp_path: Path) -> Path:
    """A tree with the modules of a small kernel, compressed in all the ways there are."""
    folder = tmp_path / "tree/lib/modules" / KERNEL
    table = ""
    for name, (path, needs) in DEPENDENCIES.items():
        file = folder / "kernel" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(compress(f"module {name}".encode(), file.suffix))
        table += f"kernel/{path}:{''.join(f' kernel/{DEPENDENCIES[n][0]}' for n in needs)}\n"
    (folder / "modules.dep").write_text(table)
    (folder / "modules.builtin").write_text("kernel/drivers/block/loop.ko\n")
    (folder / "modules.softdep").write_text("# soft\nsoftdep ext4 pre: crypto-crc32c\n")
    (folder / "modules.alias").write_text(
        "alias crypto-crc32c crc32c_generic\nalias pci:v*d*sv*sd*bc0Csc03i30* xhci_pci\n"
        "alias hid:b0003g*v*p* usbhid\nalias char-major-14-* soundcore\n"
    )
    return tmp_path / "tree"


def build(tmp_path: Path, modules_root: Path) -> dict[str, tuple[int, bytes]]:
    output = tmp_path / "initramfs"
    initramfs.build_initramfs(Path("/"), KERNEL, output, compress="none", modules_root=modules_root)
    return read_archive(output.read_bytes())


def test_archive_is_read_by_cpio(tmp_path: Path) -> None:
    archive = cpio.Archive()
    archive.add_file("a/b/file", b"content\n", 0o600)
    archive.add_symlink("a/link", "b/file")
    archive.add_character_device("dev/console", 5, 1)
    data = archive.render(1763700000)
    done = subprocess.run(["cpio", "-itvn"], input=data, capture_output=True, check=True)
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert [line[0][0] for line in lines] == ["d", "d", "-", "l", "d", "c"]
    assert lines[2][0] == "-rw-------"
    subprocess.run(["cpio", "-i", "-d", "a/*"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "a/link").read_text() == "content\n"


def test_archive_does_not_depend_on_the_order() -> None:
    first, second = cpio.Archive(), cpio.Archive()
    for archive, names in ((first, "abc"), (second, "cba")):
        for name in names:
            archive.add_file(f"{name}/{name}", name.encode())
    assert first.render() == second.render()


def test_whole_initramfs(tmp_path: Path, modules_root: Path) -> None:
    files = build(tmp_path, modules_root)
    assert files["init"][0] == 0o100755
    assert files["lib/ramos/layout.env"][1].startswith(b"#")
    assert files["bin/sh"] == (0o120777, b"busybox")
    for tool in ("e2fsck", "mkfs.btrfs", "unsquashfs", "cryptsetup", "fsverity"):
        assert files[f"sbin/{tool}"][1][:4] == b"\x7fELF"
    assert "lib/x86_64-linux-gnu/libgcc_s.so.1" in files
    folder = f"lib/modules/{KERNEL}"
    for name, (path, _) in DEPENDENCIES.items():
        plain = f"{folder}/kernel/{path.partition('.ko')[0]}.ko"
        assert (files.get(plain, (0, b""))[1] == f"module {name}".encode()) == (name != "sound")
    table = files[f"{folder}/modules.dep"][1].decode().splitlines()
    assert "kernel/fs/ext4/ext4.ko: kernel/fs/mbcache.ko" in table
    assert files["lib/ramos/modules.base"][1] == b"crc32c_generic ext4 squashfs overlay\n"
    aliases = files[f"{folder}/modules.alias"][1].decode()
    assert "xhci_pci" in aliases
    assert "usbhid" not in aliases, "keyboards are loaded only where somebody has to type"
    assert "soundcore" not in aliases


@pytest.mark.parametrize(
    "word", ["soundcore", "crypto-soft", "pre: soundcore", "post: crypto-soft"]
)
def test_soft_dependencies_come_along(tmp_path: Path, modules_root: Path, word: str) -> None:
    """By the module's name and by an alias of it; nothing else asks for this module."""
    folder = modules_root / "lib/modules" / KERNEL
    for table, line in (("softdep", f"softdep xhci-pci {word}"), ("alias", ALIAS)):
        with (folder / f"modules.{table}").open("a") as file:
            file.write(f"{line}\n")
    assert "soundcore" in kmod.load(modules_root, KERNEL).close({"xhci-pci"})
    plain = f"lib/modules/{KERNEL}/kernel/{DEPENDENCIES['sound'][0]}"
    assert plain in build(tmp_path, modules_root)


def test_tools_run_with_nothing_but_the_initramfs(tmp_path: Path, modules_root: Path) -> None:
    """Each tool's libraries are all there: its loader finds them below the unpacked archive."""
    files = build(tmp_path, modules_root)
    loader = next(name for name in files if name.startswith("lib64/ld-linux"))
    for name, (mode, data) in files.items():
        if mode & 0o170000 == 0o100000 and name.startswith(("lib", "sbin")):
            (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "x" / name).write_bytes(data)
            (tmp_path / "x" / name).chmod(0o755)
    for tool in initramfs.TOOLS:
        lib = tmp_path / "x/lib"
        path = f"{lib}/x86_64-linux-gnu:{lib}"
        argv = [tmp_path / "x" / loader, "--inhibit-cache", "--library-path", path]
        done = subprocess.run(
            [*map(str, argv), "--list", str(tmp_path / "x/sbin" / tool.name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "not found" not in done.stdout
        libraries = [line.split("=> ")[1] for line in done.stdout.splitlines() if "=> " in line]
        assert all(library.startswith(str(tmp_path)) for library in libraries)


def test_two_builds_are_the_same(tmp_path: Path, modules_root: Path) -> None:
    outputs = [tmp_path / "one", tmp_path / "two"]
    for output in outputs:
        initramfs.build_initramfs(Path("/"), KERNEL, output, modules_root=modules_root)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert outputs[0].read_bytes()[:4] == b"\x28\xb5\x2f\xfd"


def test_keymap_is_taken_along(tmp_path: Path) -> None:
    archive = cpio.Archive()
    keymaps = tmp_path / "root/etc/keymap"
    keymaps.mkdir(parents=True)
    (keymaps / "de.bmap.gz").write_bytes(gzip.compress(b"bkeymap..."))
    initramfs._add_keymap(archive, tmp_path / "root")
    assert archive.entries["lib/ramos/keymap.bmap"].data == b"bkeymap..."


BAD_INPUTS = {
    "kernel": ("9.9.9", "no kernel modules: 9.9.9"),
    "ext4": (KERNEL, "it lacks ext4"),
    "table": (KERNEL, "depmod was not run"),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_input_leaves_nothing_behind(tmp_path: Path, modules_root: Path, name: str) -> None:
    kernel, message = BAD_INPUTS[name]
    table = modules_root / f"lib/modules/{KERNEL}/modules.dep"
    if name == "ext4":
        table.write_text("".join(ln for ln in table.open() if not ln.startswith("kernel/fs/ext4")))
    if name == "table":
        table.unlink()
    output = tmp_path / "out/initramfs"
    output.parent.mkdir()
    with pytest.raises(RamosError, match=message):
        initramfs.build_initramfs(Path("/"), kernel, output, modules_root=modules_root)
    assert list(output.parent.iterdir()) == []


def test_missing_program_is_named_with_its_package(tmp_path: Path, modules_root: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    with pytest.raises(RamosError, match="busybox"):
        initramfs.build_initramfs(root, KERNEL, tmp_path / "out", modules_root=modules_root)
    (root / "bin/busybox").write_bytes(b"#!")
    with pytest.raises(RamosError, match="e2fsck") as caught:
        initramfs.build_initramfs(root, KERNEL, tmp_path / "out", modules_root=modules_root)
    assert "e2fsprogs" in caught.value.hint


def test_only_the_program_that_a_boot_can_do_without_may_be_missing(
    tmp_path: Path, modules_root: Path
) -> None:
    (tmp_path / "root/bin").mkdir(parents=True)
    for name in ("busybox", "e2fsck", "mkfs.btrfs", "unsquashfs", "cryptsetup"):
        (tmp_path / "root/bin" / name).write_bytes(b"#!")
    output = tmp_path / "out"
    initramfs.build_initramfs(
        tmp_path / "root", KERNEL, output, compress="none", modules_root=modules_root
    )
    files = read_archive(output.read_bytes())
    tools = {name for name in files if name.startswith("sbin/")}
    assert tools == {
        f"sbin/{n}" for n in ("e2fsck", "mkfs.btrfs", "unsquashfs", "cryptsetup", "modprobe")
    }


def test_unknown_compression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lzop"):
        initramfs.build_initramfs(Path("/"), KERNEL, tmp_path / "out", compress="lzop")


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("/bin/tool", "usr/bin/tool"),
        ("bin/../bin/tool", "usr/bin/tool"),
        ("/../../bin/tool", "usr/bin/tool"),
        ("/absolute", "usr/bin/tool"),
        ("/loop", None),
        ("/out", None),
        ("/none", None),
    ],
)
def test_links_never_leave_the_tree(tmp_path: Path, path: str, leads: str | None) -> None:
    (tmp_path / "secret").write_text("x")
    root = tmp_path / "root"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_text("x")
    (root / "bin").symlink_to("usr/bin")
    (root / "absolute").symlink_to("/usr/bin/tool")
    (root / "loop").symlink_to("loop")
    (root / "out").symlink_to("../secret")
    assert elf.find_file(root, path) == (root / leads if leads else None)


def test_missing_library_is_an_error(tmp_path: Path) -> None:
    tree = tmp_path / "root/bin"
    tree.mkdir(parents=True)
    (tree / "e2fsck").write_bytes(Path("/usr/sbin/e2fsck").read_bytes())
    with pytest.raises(RamosError, match="library not found"):
        elf.find_libraries(tmp_path / "root", ["/bin/e2fsck"])


def make_program(path: Path, library: str, interpreter: str = "") -> None:
    """An ELF file with a dynamic section: it needs one library."""
    text = f"\0{library}\0{interpreter}\0".encode()
    names, table = 64, 64 + len(text)
    where = names + 2 + len(library)
    dynamic = struct.pack("<6Q", 1, 1, 5, names, 0, 0)
    headers = [(1, 0, 1 << 20), (2, table, len(dynamic))]
    headers += [(3, where, len(interpreter) + 1)] if interpreter else []
    start = table + len(dynamic)
    head = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<Q14xHH", start, 56, len(headers))
    rows = [struct.pack("<IIQQQQ8x8x", k, 0, at, at, at, n) for k, at, n in headers]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.ljust(64, b"\0") + text + dynamic + b"".join(rows))


def test_each_c_library_has_its_own_libraries(tmp_path: Path) -> None:
    """Of the same name, in one tree, and in one initramfs."""
    glibc, musl = "/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"
    for name, loader in (("cryptsetup", glibc), ("e2fsck", musl)):
        make_program(tmp_path / "sbin" / name, "libblkid.so.1", loader)
        (tmp_path / loader.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / loader.lstrip("/")).write_text(name)
    for folder in ("usr/lib/x86_64-linux-gnu", "lib"):
        make_program(tmp_path / folder / "libblkid.so.1", f"libuuid-{folder[:3]}.so.1")
        (tmp_path / folder / f"libuuid-{folder[:3]}.so.1").write_text("text")
    found = elf.find_libraries(tmp_path, ["/sbin/cryptsetup", "/sbin/e2fsck"])
    assert sorted(found) == [
        *("/lib/ld-musl-x86_64.so.1", "/lib/libblkid.so.1", "/lib/libuuid-lib.so.1"),
        *("/lib64/ld-linux-x86-64.so.2", "/usr/lib/x86_64-linux-gnu/libblkid.so.1"),
        "/usr/lib/x86_64-linux-gnu/libuuid-usr.so.1",
    ]
    archive = cpio.Archive()
    for path, file in found.items():
        initramfs._add_library(archive, path, file)
    assert {"lib/libblkid.so.1", "lib/x86_64-linux-gnu/libblkid.so.1"} < archive.entries.keys()


def test_damaged_program_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "tool"
    file.write_bytes(b"\x7fELF\x02\x01" + struct.pack("<58x"))
    assert elf.read_dynamic(file) == elf.Dynamic("", (), ())
    file.write_bytes(b"\x7fELF\x02\x01" + b"\xff" * 40)
    with pytest.raises(RamosError, match="damaged ELF"):
        elf.read_dynamic(file)


def test_signature_is_kept_beside_the_module(tmp_path: Path, modules_root: Path) -> None:
    signature = b"s" * 100 + struct.pack(">8xI", 100) + kmod.SIGNATURE_END
    path = modules_root / f"lib/modules/{KERNEL}/kernel/fs/overlayfs/overlay.ko"
    path.write_bytes(b"module overlay" + signature)
    files = build(tmp_path, modules_root)
    place = f"lib/modules/{KERNEL}/kernel/fs/overlayfs/overlay.ko"
    assert files[place][1] == b"module overlay"
    assert files[f"{place}.sig"][1] == signature
    assert kmod.split_signature(b"short" + kmod.SIGNATURE_END) is not None


def test_names_with_dashes_and_underscores_are_one(modules_root: Path) -> None:
    modules = kmod.load(modules_root, KERNEL)
    assert modules.close({"xhci-pci"}) == modules.close({"xhci_pci"}) == {"xhci_pci", "usbcore"}
    assert modules.missing({"loop", "ext4", "zram"}) == {"zram"}

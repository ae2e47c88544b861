"""The base "alpine": a root tree made by Alpine's own static apk, on any Linux machine.

Owns: which packages make an Alpine image, and how apk is run. Refuses: running anything of a mirror
that was not verified against the trusted keys, the index, or both; letting apk fetch by itself.
Invariant: apk sees only files of the cache that were verified, all of one state of the mirror.

`resolve`, `bootstrap` and `configure` are what every base has (see `debian`).
"""

import contextlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ramos.errors import RamosError, UsageError
from ramos.formats import apk
from ramos.formats.apk_index import IndexedPackage
from ramos.formats.apk_sign import list_keys
from ramos.image import alpine_setup, alpine_source, mirror
from ramos.image.alpine_source import ARCH, Repositories
from ramos.image.common_setup import write_file
from ramos.image.plan import NoImageError, Origin, Plan, read_package_list
from ramos.linux import run
from ramos.linux.beneath import resolve_inside
from ramos.linux.run import OnLine

DEFAULT_INIT = "openrc"
# Raise this when the commands below change what is in a tree.
RECIPE_VERSION = 1
TOOLS = ("openssl", "unshare", "depmod")
STATIC_PACKAGE = "apk-tools-static"
STATIC_NAME = "apk.static"
PROTECTED = {"etc/mkinitfs/mkinitfs.conf": alpine_setup.MKINITFS_CONF}
PROTECTED["etc/update-grub.conf"] = alpine_setup.UPDATE_GRUB_CONF
INSTALLING = re.compile(r"\(\s*\d+/\d+\) Installing (\S+) \((\S+)\)")
GIVE_RELEASE = "Give --release another release, or leave the package out."

configure = alpine_setup.configure
probe = alpine_source.explain_absence


def list_packages(plan: Plan) -> tuple[str, ...]:
    """Every package that is asked for; dependencies come on their own."""
    sections = ("minimal", plan.kernel, f"firmware-{plan.firmware_choice}")
    needed = read_package_list("alpine", sections)
    return tuple(dict.fromkeys((*needed, *plan.packages, *_list_rescue(plan))))


def _list_rescue(plan: Plan) -> tuple[str, ...]:
    return read_package_list("alpine", ("rescue",)) if plan.profile == "rescue" else ()


def resolve(plan: Plan) -> Origin:
    """Find the release on the mirror, and how the mirror stands now."""
    check_machine(plan)
    found = alpine_source.need_mirror(plan)
    downloads = plan.cache / plan.base
    config = f"{found} {alpine_source.find_place(plan, downloads).name}"
    try:
        repositories = alpine_source.fetch_indexes(plan, downloads)
    except mirror.NoAnswerError:
        return Origin(alpine_source.name_branch(plan.release), found, config, "")
    state = alpine_source.hash_indexes(repositories)
    return Origin(repositories.release, found, config, state)


def check_machine(plan: Plan) -> None:
    """Refuse what cannot work, before anything is fetched."""
    if plan.init != "openrc":
        raise UsageError(
            "bad --init", plan.init, "Alpine has OpenRC", "Nothing was done", "Leave --init out."
        )
    if platform.machine() != ARCH:
        reason = f"its packages for {ARCH} cannot be installed on {platform.machine()}"
        raise RamosError("cannot build", "Alpine", reason, "Nothing was done")
    if os.geteuid() != 0:
        raise RamosError(
            "cannot build",
            "the root tree",
            "apk sets owners and runs the packages' scripts in it, which only root may do",
            "Nothing was done",
            "Run it as root (the steps after the root tree need no root).",
        )


def bootstrap(
    plan: Plan,
    source: Origin,  # noqa: ARG001
    tree: Path,
    downloads: Path,
    on_line: OnLine,
) -> None:
    """Make the root tree at `tree`; packages are kept in `downloads` and taken from there."""
    repositories = alpine_source.read_repositories(plan, downloads)
    packages = choose_packages(plan, repositories, on_line)
    prepare_tree(plan, tree)
    with provide_static(plan, repositories) as static, list_places(repositories) as places:
        call = plan_call(static, tree, places)
        run_apk([*call, "--initdb", "add"], on_line)
        wanted = simulate(call, packages, repositories)
        alpine_source.fetch_packages(plan, repositories, wanted, on_line)
        run_apk([*call, "add", *packages], on_line)
    alpine_source.drop_old_packages(repositories)
    finish_tree(repositories, tree)


def choose_packages(plan: Plan, repositories: Repositories, on_line: OnLine) -> list[str]:
    """The packages to ask for: a rescue tool that a release does not have is left out, aloud."""
    optional = set(_list_rescue(plan)) - set(plan.packages)
    chosen = []
    for name in list_packages(plan):
        if name in repositories.words:
            chosen.append(name)
        elif name in optional:
            on_line(f"WARNING: {repositories.release} has no {name}: it is left out")
        else:
            raise NoImageError(
                "cannot find package",
                name,
                f"neither main nor community of {repositories.release} has it",
                hint=GIVE_RELEASE,
            )
    return chosen


def prepare_tree(plan: Plan, tree: Path) -> None:
    """What has to lie in the tree before apk starts: keys, and the switches of two triggers.

    mkinitfs would build an initramfs that knows nothing of RAMOS, grub a menu of the build machine.
    """
    for key in list_keys(alpine_source.find_keys(plan)):
        write_file(tree / "etc/apk/keys" / key.name, key.read_bytes())
    for name, text in PROTECTED.items():
        write_file(tree / name, text)


@contextlib.contextmanager
def provide_static(plan: Plan, repositories: Repositories) -> Iterator[Path]:
    """The static apk of the mirror, verified; it goes away with the block."""
    found = repositories.find(STATIC_PACKAGE)
    if found is None:
        raise RamosError("cannot find package", STATIC_PACKAGE, f"{repositories.mirror} has none")
    keys = alpine_source.find_keys(plan)
    package = alpine_source.provide_package(plan, repositories, found, keys)
    with tempfile.TemporaryDirectory(prefix="apk-", dir=plan.cache) as directory:
        unpacked = Path(directory) / "files"
        names = apk.unpack(package, unpacked, owners=False)
        inside = [name for name in names if name.rpartition("/")[2] == STATIC_NAME]
        static = resolve_inside(unpacked, inside[0]) if inside else unpacked
        if not static.is_file():
            raise RamosError("cannot use package", package.label, f"it holds no {STATIC_NAME}")
        static.chmod(0o755)
        yield static


@contextlib.contextmanager
def list_places(repositories: Repositories) -> Iterator[Path]:
    """A file that names the cache's repositories, by links without blanks: apk splits at them."""
    with tempfile.TemporaryDirectory(prefix="ramos-apk-") as directory:
        lines = []
        for name in repositories.indexes:
            link = Path(directory) / name
            link.symlink_to((repositories.place / name).absolute())
            lines.append(f"{link}\n")
        places = Path(directory) / "repositories"
        places.write_text("".join(lines), encoding="utf-8")
        yield places


def plan_call(static: Path, tree: Path, places: Path) -> list[str]:
    """How apk is called: in a mount namespace of its own, where it may mount the tree's /proc."""
    call = ["unshare", "--mount", "--", str(static), "--root", str(tree), "--arch", ARCH]
    return [*call, "--repositories-file", str(places), "--no-network", "--no-progress"]


def run_apk(argv: list[str], on_line: OnLine) -> None:
    """Run apk; when it fails, say what it said."""
    said: list[str] = []

    def listen(line: str) -> None:
        said.append(line)
        on_line(line)

    try:
        run.run_watched(argv, listen)
    except RamosError as error:
        complaints = [line for line in said if "ERROR" in line] or said
        reason = " | ".join(complaints[-run.TAIL_LINES :]) or error.reason
        state = "The root tree was thrown away"
        raise RamosError("cannot install packages", "apk", reason, state) from error


def simulate(
    call: list[str], packages: list[str], repositories: Repositories
) -> list[tuple[str, IndexedPackage]]:
    """What apk would install: it alone knows how to choose; it needs only the indexes for that."""
    result = run.run([*call, "add", "--simulate", *packages], check=False)
    if result.code != 0:
        reason = " | ".join((result.stdout + result.stderr).decode(errors="replace").split("\n"))
        raise NoImageError(
            "cannot choose packages",
            repositories.release,
            reason,
            hint=GIVE_RELEASE,
        )
    chosen = []
    for name, version in INSTALLING.findall(result.text):
        found = repositories.find_version(name, version)
        if found is None:
            reason = f"apk wants {version}, which no index names"
            raise NoImageError("cannot choose packages", name, reason)
        chosen.append(found)
    if not chosen:
        raise RamosError("cannot choose packages", "apk", "it would install nothing")
    return chosen


def finish_tree(repositories: Repositories, tree: Path) -> None:
    """Leave the tree as a system that goes on from here: its mirror, its modules' index."""
    for name in PROTECTED:
        # Ours stays; the package's own is kept beside it by apk, and would only confuse.
        (tree / f"{name}.apk-new").unlink(missing_ok=True)
    write_file(tree / "etc/apk/repositories", render_repositories(repositories))
    shutil.rmtree(tree / "var/cache/apk", ignore_errors=True)
    (tree / "var/cache/apk").mkdir(parents=True, exist_ok=True)
    index_modules(tree)


def index_modules(tree: Path) -> None:
    """Make the tables of modules where kmod's own trigger did not.

    The tree's depmod is the better one: the build machine's may not read gzipped modules.
    """
    for modules in [*tree.glob("usr/lib/modules/*"), *tree.glob("lib/modules/*")]:
        if not (modules / "modules.dep").exists():
            has_own = any(
                os.access(tree / name, os.X_OK) for name in ("sbin/depmod", "usr/sbin/depmod")
            )
            run.run(
                ["chroot", tree, "depmod", modules.name]
                if has_own
                else ["depmod", "-b", tree, modules.name]
            )


def render_repositories(repositories: Repositories) -> str:
    """/etc/apk/repositories of the stick; a directory of the build machine is no use there."""
    branch = repositories.release
    lines = [f"{repositories.mirror}/{branch}/{name}" for name in repositories.indexes]
    if not mirror.is_directory(repositories.mirror):
        return "".join(f"{line}\n" for line in lines)
    head = "# The image was built from a directory. Name a mirror here, as in the lines below.\n"
    return head + "".join(f"#{line}\n" for line in lines)

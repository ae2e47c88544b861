"""Alpine's package manager as the engine uses it, and the stick's own repository for it.

Owns: the functions of `Manager`. Refuses: `--allow-untrusted`, ever, and packages that only
one of index and signature vouches for. Invariants: what `fetch` returns is signed by a trusted key
and is the one that a signed index names; special packages are installed with the tag `@ramos`, so
that neither `apk upgrade` nor `apk upgrade -a` ever takes a mirror's.

    /persist/packages/alpine/<arch>/     APKINDEX.tar.gz, *.apk
    /etc/apk/repositories                `@ramos /persist/packages/alpine`
    /etc/apk/keys/ramos-stick.rsa.pub    the stick's own key
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ramos.errors import RamosError, RefusedError
from ramos.formats import apk, apk_version
from ramos.formats.apk_index import Index, IndexedPackage, make_index, read_index
from ramos.linux.fs import hold_lock, write_changed, write_durably
from ramos.linux.run import OnLine, run, run_watched
from ramos.packages.recipe import Recipe, render_special
from ramos.packages.site import (
    LOCK_WAIT_SECONDS,
    Candidate,
    Installed,
    Removal,
    Site,
    find_key,
)
from ramos.packages.unpack import Staged, stage_apk
from ramos.sizes import format_count

BASE = "alpine"
TAG = "ramos"
INDEX = "APKINDEX.tar.gz"
DATABASE = "lib/apk/db/installed"
STATE_FILES = (
    DATABASE,
    *(f"lib/apk/db/{name}" for name in ("triggers", "scripts.tar", "scripts.tar.gz")),
    "etc/apk/world",
)
SPECIAL_FILE = "etc/apk/ramos-special"
# By this name the commit hook knows who takes care of special packages (apk-triggers/alpine).
CALLER = {"RAMOS_APK_CALLER": "engine"}
CACHES = ("etc/apk/cache", "var/cache/apk")
DEPEND_NAME = re.compile(r"[^<>=~@!\s]+")
MODULES_DIR = re.compile(r"(?:usr/)?lib/modules/([^/]+)")
PURGE_LINE = re.compile(r"^\([ 0-9/]+\) Purging (\S+)", re.MULTILINE)
KEPT_TITLE = "not removed due to:"
NEEDED_LINE = re.compile(r"^  \S+: (.+)$", re.MULTILINE)


def find_arch(site: Site) -> str:
    """The architecture of this system's packages."""
    return (site.root / "etc/apk/arch").read_text(encoding="ascii").strip()


def refresh(site: Site, on_line: OnLine) -> None:
    """Fetch the indexes of the mirrors."""
    # `apk update` of 2.14.10 alone asks no mirror whose index it fetched in the last four hours.
    words = [*_apk(site), "update", "--update-cache", *_upstream(site)]
    try:
        run_watched(words, on_line)
    except RamosError as error:
        hint = "Check the network and /etc/apk/repositories."
        raise RefusedError(
            "cannot refresh", "the package lists", error.reason, hint=hint
        ) from error


def list_installed(site: Site) -> dict[str, Installed]:
    """Every installed package; special ones are in `world` with our tag."""
    world = (site.root / "etc/apk/world").read_text(encoding="utf-8").split()
    tagged = {word.partition("@")[0] for word in world if word.endswith(f"@{TAG}")}
    found = {}
    for record in _read_records(site):
        name, version = _field(record, "P"), _field(record, "V")
        found[name] = Installed(name, version, name in tagged)
    return found


def is_newer(version: str, than: str) -> bool:
    """Compare versions the way apk does."""
    return apk_version.sort_key(version) > apk_version.sort_key(than)


def find_candidates(site: Site, wanted: Iterable[str]) -> dict[str, Candidate]:
    """What the mirrors have of these packages: NAME, or NAME=VERSION."""
    entries: dict[str, list[IndexedPackage]] = {}
    for path in _list_indexes(site):
        index = _read_index(path, path.stat().st_mtime_ns, site.root / "etc/apk/keys")
        for name, versions in index.entries.items():
            entries.setdefault(name, []).extend(versions)
    found = {}
    for word in wanted:
        name, _, version = word.partition("=")
        if name in entries:
            best = max(entries[name], key=lambda entry: apk_version.sort_key(entry.version))
            if version not in ("", best.version):
                # `apk fetch` takes names only, and gives the newest version of each.
                reason = f"apk fetches the newest version only, which is {best.version}"
                raise RefusedError("cannot get package", word, reason)
            found[name] = _make_candidate(best)
    return found


@functools.lru_cache
def _read_index(path: Path, _mtime_ns: int, keys: Path) -> Index:
    """Verified and parsed once, as long as it stays the same."""
    return read_index(path, keys)


def _make_candidate(entry: IndexedPackage) -> Candidate:
    return Candidate(
        name=entry.name,
        version=entry.version,
        proof=entry.identity,
        size_bytes=entry.size_bytes,
        installed_bytes=int(entry.fields.get("I", "0")),
        depends=tuple(_spell_depend(depend) for depend in entry.depends if depend[0] != "!"),
    )


def _spell_depend(depend: str) -> str:
    """`name=1` as the engine reads dependencies: `name (= 1)`."""
    match = DEPEND_NAME.match(depend)
    name = match[0] if match else depend
    rest = depend[len(name) :]
    return f"{name} (= {rest[1:]})" if re.match(r"=[^~<>]", rest) else name


def fetch(site: Site, candidate: Candidate, folder: Path, on_line: OnLine) -> Path:
    """Download one package: apk compares it with the index, we with index and signature."""
    folder.mkdir(parents=True)
    target = f"{candidate.name}-{candidate.version}"
    words = [*_apk(site), "fetch", "-o", str(folder), *_upstream(site), candidate.name]
    try:
        run_watched(words, on_line)
    except RamosError as error:
        hint = "Run 'apk update' if the mirror has changed meanwhile."
        raise RefusedError("cannot fetch", target, error.reason, hint=hint) from error
    found = list(folder.glob("*.apk"))
    if len(found) != 1:
        raise RefusedError("cannot fetch", target, f"{format_count(len(found), 'file')} came")
    keys = site.root / "etc/apk/keys"
    package = apk.verify_package(found[0], keys, identity=candidate.proof, name=candidate.name)
    if package.arch not in (find_arch(site), "noarch"):
        reason = f"it is for {package.arch}, this system is {find_arch(site)}"
        raise RefusedError("cannot use package", package.label, reason)
    return found[0]


def stage(site: Site, path: Path, recipe: Recipe) -> Staged:
    """Take one package apart."""
    return stage_apk(path, recipe, site.work / "staged", find_key(site))


def find_repository(site: Site) -> Path:
    """Where the stick's own packages lie."""
    return site.packages / "alpine" / find_arch(site)


def list_packages(site: Site) -> list[Path]:
    """The packages of the stick's own repository."""
    return sorted(find_repository(site).glob("*.apk"))


def read_label(path: Path) -> tuple[str, str]:
    """The name and the version of a package."""
    package = apk.read_package(path)
    return package.name, package.version


def sign_repository(site: Site, paths: Iterable[Path]) -> None:
    """Write the index of these packages. Done anew, it also mends what a power cut left."""
    folder = find_repository(site)
    make_index(paths, folder / INDEX, find_key(site), "RAMOS stick", arch=folder.name)


def read_repository(site: Site, _on_line: OnLine) -> None:
    """Write the settings: apk reads the index at each call."""
    write_settings(site)


def install(site: Site, names: Sequence[str], on_line: OnLine, *, simulate: bool = False) -> None:
    """Install from the stick's repository with the real apk, under our tag."""
    # Without --upgrade apk keeps what is installed under our tag, and says that all is well.
    words = [*_apk(site), "add", "--upgrade", *(f"{name}@{TAG}" for name in names)]
    if simulate:
        _run_apk(site, [*words, "--simulate"], names, on_line)
        return
    new = [name for name in names if name not in list_installed(site)]
    state = [site.root / name for name in STATE_FILES]
    before = {path: path.read_bytes() for path in state if path.exists()}
    try:
        _run_apk(site, words, names, on_line)
    except RamosError:
        _take_back(site, new, before)
        raise


def _run_apk(site: Site, words: Sequence[str], names: Sequence[str], on_line: OnLine) -> None:
    """Run apk. As long as any package is broken (a script of it failed, say), apk ends each call
    with `1 error` and status 1; only what it calls an ERROR has failed this time.
    """
    broken = [name for name in _list_broken(site) if name not in names]
    said: list[str] = []

    def listen(line: str) -> None:
        said.append(line)
        on_line(line)

    try:
        run_watched(words, listen, env=CALLER)
    except RamosError:
        if not broken or any("ERROR" in line for line in said):
            raise
        on_line(f"{', '.join(broken)}: broken before; 'apk fix' may mend it")


def _list_broken(site: Site) -> list[str]:
    """The packages that apk knows to be broken."""
    return [_field(record, "P") for record in _read_records(site) if _field(record, "f")]


def _take_back(site: Site, new: Sequence[str], before: Mapping[Path, bytes]) -> None:
    """A failing `apk add` (two packages with the same file) leaves its packages in the database.

    The new ones are removed; of the others apk believes again what it did, so that the next try
    brings them anew.
    """
    if new:
        run([*_apk(site), "del", *new], check=False)
    for path, data in before.items():
        if path.read_bytes() != data:
            write_durably(path, data)


def plan_removal(site: Site, names: Sequence[str]) -> Removal:
    """What would go with these packages: apk keeps what something needs, and takes what nothing
    needs any longer. It says so whatever its status is.
    """
    text = run([*_apk(site), "del", "--simulate", *names], check=False).text
    needed_by = " ".join(NEEDED_LINE.findall(text.partition(KEPT_TITLE)[2])).split()
    return Removal(tuple(PURGE_LINE.findall(text)), tuple(needed_by))


def remove(site: Site, names: Sequence[str], on_line: OnLine) -> None:
    """Remove packages; what a special one had left behind elsewhere is the engine's business."""
    _run_apk(site, [*_apk(site), "del", *names], names, on_line)


def write_settings(site: Site) -> None:
    """Tell apk about the stick's repository and key, and the wrapper about what is special."""
    key = find_key(site)
    public = key.with_name(f"{key.name}.pub")
    write_changed(site.root / "etc/apk/keys" / public.name, public.read_text(encoding="ascii"))
    write_changed(site.root / SPECIAL_FILE, render_special(site.recipes, BASE))
    path = site.root / "etc/apk/repositories"
    line = f"@{TAG} {find_repository(site).parent}"
    lines = path.read_text(encoding="utf-8").splitlines()
    if line not in lines:
        kept = [other for other in lines if not other.startswith(f"@{TAG} ")]
        write_changed(path, "".join(f"{text}\n" for text in [*kept, line]))


def release_files(site: Site, name: str, recipe: Recipe) -> None:
    """Make apk forget what has left an installed stock package.

    Otherwise replacing it would delete the running kernel's modules from the system in RAM.
    """
    path = site.root / DATABASE
    with hold_lock(path.with_name("lock"), "packages", LOCK_WAIT_SECONDS):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        records = []
        for record in text.split("\n\n"):
            released = _release(record, recipe) if _field(record, "P") == name else record
            records.append(released)
        write_changed(path, "\n\n".join(records))


def _release(record: str, recipe: Recipe) -> str:
    """A record without the directories (F, M) and files (R, a, Z) that have left."""
    kept: list[str] = []
    folder, skip = "", False
    for line in record.split("\n"):
        letter, _, value = line.partition(":")
        if letter == "F":
            folder = value
            skip = bool(recipe.find_place(folder))
        elif letter == "R":
            skip = bool(recipe.find_place(f"{folder}/{value}"))
        elif letter not in ("M", "a", "Z"):
            skip = False
        if not skip:
            kept.append(line)
    return "\n".join(kept)


def list_kernel_versions(site: Site, names: Iterable[str]) -> list[str]:
    """The kernels that installed stock packages had brought, by the directories they list."""
    wanted = set(names)
    found = []
    for record in _read_records(site):
        if _field(record, "P") in wanted:
            folders = (line[2:] for line in record.split("\n") if line.startswith("F:"))
            matches = (MODULES_DIR.fullmatch(folder) for folder in folders)
            found += [match[1] for match in matches if match]
    return found


def _apk(site: Site) -> list[str]:
    """The real apk, not our wrapper."""
    words = [str(site.apk), "--no-progress", "--no-interactive"]
    return words if site.root == Path("/") else [*words, "--root", str(site.root)]


def _read_records(site: Site) -> Iterator[str]:
    text = (site.root / DATABASE).read_text(encoding="utf-8", errors="surrogateescape")
    yield from (record for record in text.split("\n\n") if record.strip())


def _field(record: str, letter: str) -> str:
    lines = record.lstrip("\n").split("\n")
    return next((line[2:] for line in lines if line.startswith(f"{letter}:")), "")


def _list_sources(site: Site) -> list[str]:
    """The repositories of the mirrors: neither ours nor tagged ones of the user."""
    lines = (site.root / "etc/apk/repositories").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and line.strip()[0] not in "#@"]


def _upstream(site: Site) -> list[str]:
    """An option for apk that leaves the stick's own repository out."""
    path = site.work / "repositories"
    path.write_text("".join(f"{line}\n" for line in _list_sources(site)), encoding="utf-8")
    return ["--repositories-file", str(path)]


def _list_indexes(site: Site) -> list[Path]:
    """The indexes that apk has at hand: fetched ones, and those of repositories on a disk."""
    found = [path for name in CACHES for path in (site.root / name).glob("APKINDEX.*.tar.gz")]
    local = (Path(line) / find_arch(site) / INDEX for line in _list_sources(site) if line[0] == "/")
    return list(dict.fromkeys(path.resolve() for path in (*found, *local) if path.is_file()))

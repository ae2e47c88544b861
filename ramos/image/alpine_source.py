"""Which packages of which Alpine mirror: from the user's words to verified files in the cache.

Owns: choosing mirror and release, the signed indexes, and the files that they name. A mirror is
given by --mirror, by RAMOS_ALPINE_MIRROR (`none`: there is none), by the /etc/apk/repositories of a
machine that runs Alpine; else it is the public one that Alpine's own /etc/apk/repositories name.
Refuses: an index or package that the trusted keys did not sign, or that is not what the index
names. Invariant: whatever `fetch_packages` leaves in the cache was verified against one state of
the mirror, the one whose indexes lie beside it.

The cache, for one mirror, release and set of keys:
    <digest>/{main,community}/x86_64/APKINDEX.tar.gz    as signed
    <digest>/{main,community}/x86_64/<name>-<version>.apk
"""

import concurrent.futures
import functools
import hashlib
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ramos import layout
from ramos.errors import RamosError
from ramos.formats import apk, apk_package, apk_sign
from ramos.formats.apk_index import INDEX_NAME, Index, IndexedPackage, read_index
from ramos.image import mirror
from ramos.image.plan import NoImageError, Plan
from ramos.linux import fs
from ramos.linux.run import OnLine

ARCH = "x86_64"
REPOSITORIES = ("main", "community")
NEWEST = "latest-stable"
MIRROR_VARIABLE = "RAMOS_ALPINE_MIRROR"
PUBLIC_MIRROR = "https://dl-cdn.alpinelinux.org/alpine"
NO_MIRROR = "none"
HOST_REPOSITORIES = Path("/etc/apk/repositories")
LIMIT_BYTES = 1 << 30
WORKERS = 4
# A mirror that does not answer in this time, or not as a whole in that one, is none for `auto`.
PROBE_SECONDS = 4
PROBE_TOTAL_SECONDS = 15
GIVE_MIRROR = (
    f"Give --mirror a URL or directory that holds v3.23/main/{ARCH} and the like, or set"
    f" {MIRROR_VARIABLE}."
)


@dataclass(frozen=True)
class Repositories:
    """The indexes of one release, and where their files are kept."""

    mirror: str
    release: str
    place: Path
    indexes: Mapping[str, Index]

    def find(self, name: str) -> tuple[str, IndexedPackage] | None:
        """The repository and record of the newest version of a package; main wins a tie."""
        found = (
            (repository, index.find_newest(name)) for repository, index in self.indexes.items()
        )
        return _take_first(found)

    def find_version(self, name: str, version: str) -> tuple[str, IndexedPackage] | None:
        """The repository and record of exactly this package."""
        return _take_first(
            (repository, entry)
            for repository, index in self.indexes.items()
            for entry in index.entries.get(name, ())
            if entry.version == version
        )

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """Every name that `apk add` would know: of packages, and what they provide."""
        groups = (group for index in self.indexes.values() for group in index.entries.values())
        entries = [entry for group in groups for entry in group]
        provided = {re.split("[=<>~]", word)[0] for entry in entries for word in entry.provides}
        return frozenset(provided | {entry.name for entry in entries})


def _take_first(
    found: Iterable[tuple[str, IndexedPackage | None]],
) -> tuple[str, IndexedPackage] | None:
    return next(((name, entry) for name, entry in found if entry is not None), None)


def find_mirror(plan: Plan) -> str:
    """The mirror to use; empty when none is known."""
    known = plan.mirror or os.environ.get(MIRROR_VARIABLE, "") or _read_host_mirror()
    return "" if known == NO_MIRROR else mirror.normalize(known or PUBLIC_MIRROR)


def need_mirror(plan: Plan) -> str:
    """The mirror to use; knowing none is an error."""
    found = find_mirror(plan)
    if not found:
        raise RamosError(
            "cannot build", "Alpine", "no mirror is known", "Nothing was done", GIVE_MIRROR
        )
    return found


def _read_host_mirror(path: Path = HOST_REPOSITORIES) -> str:
    """The mirror that this machine uses, when it runs Alpine."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        match = re.match(r"\s*([^#\s@]\S*?)/(?:v\d+\.\d+|edge|latest-stable)/main/?\s*$", line)
        if match:
            return match[1]
    return ""


def name_branch(release: str) -> str:
    """The directory of a release: 3.23 lies in v3.23, no release is the newest stable one."""
    if not release:
        return NEWEST
    return f"v{release}" if re.fullmatch(r"\d+\.\d+", release) else release


def explain_absence(plan: Plan) -> str:
    """Why Alpine cannot be the base here and now; empty when it can. It takes seconds."""
    if plan.init not in ("", "openrc"):
        return f"its init system is OpenRC, and --init {plan.init} was asked for"
    if platform.machine() != ARCH:
        return f"this machine is no {ARCH}"
    found = find_mirror(plan)
    if not found:
        return f"no Alpine mirror is known (--mirror or {MIRROR_VARIABLE} would name one)"
    name = f"{name_branch(plan.release)}/main/{ARCH}/{INDEX_NAME}"
    probe = plan.cache / "alpine" / "probe"
    try:
        mirror.fetch(
            found,
            name,
            probe,
            limit_bytes=LIMIT_BYTES,
            timeout_seconds=PROBE_SECONDS,
            total_seconds=PROBE_TOTAL_SECONDS,
            tries=1,
        )
        read_index(probe, find_keys(plan), f"{found}/{name}")
    except RamosError as error:
        return f"{error.obj}: {error.reason}"
    finally:
        probe.unlink(missing_ok=True)
    return ""


def find_keys(plan: Plan) -> Path:
    """The directory of the public keys that are trusted."""
    return plan.keys or layout.find_data("keys") / "alpine"


def digest_keys(directory: Path) -> str:
    """One digest of all trusted keys: other keys, another cache."""
    digest = hashlib.sha256()
    for path in apk_sign.list_keys(directory):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def find_place(plan: Plan, downloads: Path) -> Path:
    """Where the files of this mirror, release and set of keys are kept."""
    words = (need_mirror(plan), name_branch(plan.release), digest_keys(find_keys(plan)))
    return downloads / hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def fetch_indexes(plan: Plan, downloads: Path) -> Repositories:
    """Bring the indexes as they stand now, and check their signatures."""
    found, branch, place = need_mirror(plan), name_branch(plan.release), find_place(plan, downloads)
    for repository in REPOSITORIES:
        fresh = index_path(place, repository).with_suffix(".new")
        try:
            name = f"{branch}/{repository}/{ARCH}/{INDEX_NAME}"
            mirror.fetch(found, name, fresh, limit_bytes=LIMIT_BYTES)
        except mirror.NotThereError as error:
            raise NoImageError(
                "unknown release",
                branch,
                f"{found} has no {branch}/{repository}/{ARCH}",
                hint="Give --release a release that the mirror has, such as 3.23, or leave it out.",
            ) from error
        read_index(fresh, find_keys(plan), f"{found}/{name}")
        fresh.rename(index_path(place, repository))
    return read_repositories(plan, downloads)


def index_path(place: Path, repository: str) -> Path:
    """Where the index of a repository is kept."""
    return place / repository / ARCH / INDEX_NAME


def read_repositories(plan: Plan, downloads: Path) -> Repositories:
    """The indexes as they were fetched, checked once more."""
    place = find_place(plan, downloads)
    keys = find_keys(plan)
    indexes = {name: read_index(index_path(place, name), keys) for name in REPOSITORIES}
    releases = {_find_release(index) for index in indexes.values()} - {""}
    if len(releases) > 1:
        raise NoImageError(
            "cannot use mirror",
            need_mirror(plan),
            f"main and community are of different releases ({', '.join(sorted(releases))})",
            hint="It is being updated: try again later, or give --release.",
        )
    release = next(iter(releases), name_branch(plan.release))
    return Repositories(need_mirror(plan), release, place, indexes)


def _find_release(index: Index) -> str:
    """The release that an index says it is of: v3.23 of `v3.23.2-45-g0123456789a`."""
    match = re.match(r"(v\d+\.\d+)[.\s-]", f"{index.description} ")
    return match[1] if match else ""


def hash_indexes(repositories: Repositories) -> str:
    """What tells one state of the mirror from the next."""
    hashes = (fs.hash_file(index.path) for index in repositories.indexes.values())
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def fetch_packages(
    plan: Plan,
    repositories: Repositories,
    wanted: Iterable[tuple[str, IndexedPackage]],
    on_line: OnLine,
) -> None:
    """Bring packages that are not there yet, and verify every one against key and index."""
    todo = list(wanted)
    keys = find_keys(plan)

    def provide(item: tuple[str, IndexedPackage]) -> IndexedPackage:
        provide_package(plan, repositories, item, keys)
        return item[1]

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(provide, item) for item in todo]
        try:
            for count, future in enumerate(concurrent.futures.as_completed(futures), 1):
                entry = future.result()
                on_line(f"({count}/{len(todo)}) Fetching {entry.name} ({entry.version})")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def provide_package(
    plan: Plan, repositories: Repositories, item: tuple[str, IndexedPackage], keys: Path
) -> apk_package.Package:
    """One verified package: from the cache when that holds it, else from the mirror."""
    repository, entry = item
    path = repositories.place / repository / ARCH / entry.file_name
    if path.exists():
        try:
            return apk.verify_package(path, keys, identity=entry.identity, name=entry.name)
        except RamosError:
            path.unlink()
    name = f"{name_branch(plan.release)}/{repository}/{ARCH}/{entry.file_name}"
    fresh = path.with_suffix(".new")
    try:
        mirror.fetch(
            repositories.mirror,
            name,
            fresh,
            limit_bytes=LIMIT_BYTES,
            expected_bytes=entry.size_bytes,
        )
        apk.verify_package(fresh, keys, identity=entry.identity, name=entry.name)
        fresh.rename(path)
    except mirror.NotThereError as error:
        reason = f"{error.reason}, though its index names it: the mirror changed meanwhile"
        raise NoImageError("cannot fetch", entry.file_name, reason, hint="Try again.") from error
    finally:
        fresh.unlink(missing_ok=True)
    return apk.read_package(path)


def drop_old_packages(repositories: Repositories) -> None:
    """Remove cached packages that the indexes no longer name."""
    for repository, index in repositories.indexes.items():
        known = {entry.file_name for group in index.entries.values() for entry in group}
        for path in (repositories.place / repository / ARCH).glob("*.apk"):
            if path.name not in known:
                path.unlink()

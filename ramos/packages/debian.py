"""Debian's package manager as the engine uses it, and the stick's own repository for it.

Owns: the functions of `Manager`, and two views of apt: *upstream* (every source but the stick's)
and the ordinary one. Refuses: unauthenticated packages, ever. Invariants: what `fetch` returns has
the sha256 that a signed index names; what is installed comes from the stick's repository, which the
stick's key signs.

    /persist/packages/debian/      Packages, Release, Release.gpg, *.deb
    /persist/packages/debian/ramos.gpg             the public key
    /etc/apt/sources.list.d/ramos.sources          names both; written with the first package
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ramos.errors import RamosError, RefusedError
from ramos.formats import deb
from ramos.formats.deb_package import (
    parse_fields,
    render_packages,
    render_release,
    split_relations,
)
from ramos.formats.openpgp import make_public_key, sign_detached
from ramos.linux.fs import hash_file, hold_lock, write_changed, write_durably
from ramos.linux.run import OnLine, Result, run, run_watched
from ramos.packages.debian_settings import HOOK, SOURCE_FILE, render_settings, render_source
from ramos.packages.recipe import Recipe
from ramos.packages.recipes import find_shipped_dir
from ramos.packages.site import (
    LOCK_WAIT_SECONDS,
    Candidate,
    Installed,
    Removal,
    Site,
    find_key,
)
from ramos.packages.unpack import MARK, Staged, stage_deb
from ramos.sizes import format_count

BASE = "debian"
KEY_USER = "RAMOS stick <root@localhost>"
NEVER = ("-o", "APT::Get::AllowUnauthenticated=false", "-o", "Acquire::AllowInsecureRepositories=0")
# For the wrapper and the hook of apt: this call is the engine's.
OURS = ("-o", "RAMOS::Engine=true")
INSTALL = (
    *("apt-get", *OURS, "install", "-y", "-q", "--no-install-recommends", *NEVER),
    *("-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0"),
)
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "DEBIAN_PRIORITY": "critical", "RAMOS_NO_NEWS": "1"}
MODULES_LINE = re.compile(r"(?:/usr)?/lib/modules/([^/]+)")
REMOVE_LINE = re.compile(r"^Remv (\S+)", re.MULTILINE)
COMPLAINT = "E: "


def find_arch() -> str:
    """The architecture of this system's packages."""
    return run(["dpkg", "--print-architecture"]).text


def refresh(site: Site, on_line: OnLine) -> None:
    """Fetch the indexes of the mirrors."""
    argv = ["apt-get", "update", "-q", *NEVER, "-o", "APT::Get::List-Cleanup=false"]
    argv += ["-o", "APT::Update::Error-Mode=any", *_upstream(site)]
    try:
        _watch(argv, on_line)
    except RamosError as error:
        hint = "Check the network and /etc/apt/sources.list.d."
        raise RefusedError(
            "cannot refresh", "the package lists", error.reason, hint=hint
        ) from error


def list_installed(site: Site) -> dict[str, Installed]:
    """Every installed package."""
    layout = "${db:Status-Abbrev}\t${Package}\t${Version}\t${" + MARK + "}\n"
    root = f"--admindir={site.root / 'var/lib/dpkg'}"
    found = {}
    for line in run(["dpkg-query", root, "-W", "-f", layout]).text.splitlines():
        status, name, version, mark = line.split("\t")
        if status[1:2] == "i":
            found[name] = Installed(name, version, bool(mark))
    return found


def is_newer(version: str, than: str) -> bool:
    """Compare versions the way dpkg does."""
    return run(["dpkg", "--compare-versions", version, "gt", than], check=False).code == 0


def find_candidates(site: Site, wanted: Iterable[str]) -> dict[str, Candidate]:
    """What the mirrors have of these packages: NAME, or NAME=VERSION."""
    words = list(dict.fromkeys(wanted))
    versions = _find_versions(site, [word for word in words if "=" not in word])
    exact = [
        word if "=" in word else f"{word}={versions[word]}"
        for word in words
        if "=" in word or word in versions
    ]
    if not exact:
        return {}
    shown = run(["apt-cache", "show", *_upstream(site), *exact], check=False)
    found: dict[str, Candidate] = {}
    for text in shown.stdout.decode("utf-8", "surrogateescape").split("\n\n"):
        if text.strip():
            _take_candidate(parse_fields(text.strip("\n"), "the package lists"), exact, found)
    return found


def _take_candidate(
    fields: dict[str, str], exact: Sequence[str], found: dict[str, Candidate]
) -> None:
    name, version = fields.get("Package", ""), fields.get("Version", "")
    if name in found or "SHA256" not in fields or f"{name}={version}" not in exact:
        return
    relations = (*split_relations(fields.get("Pre-Depends", "")),)
    found[name] = Candidate(
        name=name,
        version=version,
        proof=fields["SHA256"],
        size_bytes=int(fields.get("Size", "0")),
        installed_bytes=int(fields.get("Installed-Size", "0")) * 1024,
        depends=(*relations, *split_relations(fields.get("Depends", ""))),
    )


def _find_versions(site: Site, names: Sequence[str]) -> dict[str, str]:
    """What apt would install of each, with the user's own pins but without ours."""
    if not names:
        return {}
    found: dict[str, str] = {}
    name = ""
    for line in run(["apt-cache", "policy", *_upstream(site), *names]).text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            name = line[:-1]
        elif line.startswith("  Candidate: ") and not line.endswith("(none)"):
            found[name] = line.partition(": ")[2]
    return found


def fetch(site: Site, candidate: Candidate, folder: Path, on_line: OnLine) -> Path:
    """Download one package from the mirrors and compare it with the signed index."""
    folder.mkdir(parents=True)
    target = f"{candidate.name}={candidate.version}"
    argv = ["apt-get", "download", "-q", *NEVER, *_upstream(site), target]
    try:
        _watch(argv, on_line, cwd=folder)
    except RamosError as error:
        hint = "Try again in a while: the mirror may be changing."
        raise RefusedError("cannot fetch", target, error.reason, hint=hint) from error
    found = list(folder.glob("*.deb"))
    if len(found) != 1:
        raise RefusedError("cannot fetch", target, f"{format_count(len(found), 'file')} came")
    deb.verify_package(
        found[0],
        sha256=candidate.proof,
        size_bytes=candidate.size_bytes,
        name=candidate.name,
        version=candidate.version,
        arch=find_arch(),
    )
    return found[0]


def stage(site: Site, path: Path, recipe: Recipe) -> Staged:
    """Take one package apart."""
    return stage_deb(path, recipe, site.work / "staged")


def find_repository(site: Site) -> Path:
    """Where the stick's own packages lie."""
    return site.packages / "debian"


def list_packages(site: Site) -> list[Path]:
    """The packages of the stick's own repository."""
    return sorted(find_repository(site).glob("*.deb"))


def read_label(path: Path) -> tuple[str, str]:
    """The name and the version of a package."""
    package = deb.read_package(path)
    return package.name, package.version


def sign_repository(site: Site, paths: Iterable[Path]) -> None:
    """Write the indexes of these packages. Done anew, it also mends what a power cut left."""
    folder = find_repository(site)
    key = find_key(site)
    entries = [(path.name, *_describe_file(path)) for path in paths]
    packages = render_packages(entries)
    now = int(time.time())
    release = render_release({"Packages": packages}, now)
    write_durably(folder / "ramos.gpg", make_public_key(key, KEY_USER))
    write_durably(folder / "Packages", packages)
    write_durably(folder / "Release", release)
    write_durably(folder / "Release.gpg", sign_detached(key, release, now).encode("ascii"))


def _describe_file(path: Path) -> tuple[dict[str, str], int, str]:
    return dict(deb.read_package(path).fields), path.stat().st_size, hash_file(path)


def read_repository(site: Site, on_line: OnLine) -> None:
    """Have apt read the index of the stick's repository, and none of the mirrors'."""
    write_settings(site)
    parts = _select_parts(site, "local", lambda name: name == Path(SOURCE_FILE).name)
    update = ["apt-get", "update", "-q", *NEVER, "-o", "APT::Get::List-Cleanup=false"]
    update += ["-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={parts}"]
    _watch([*update, "-o", "APT::Update::Error-Mode=any"], on_line)


def install(site: Site, names: Sequence[str], on_line: OnLine, *, simulate: bool = False) -> None:
    """Install from the stick's repository with the real apt."""
    argv = [*INSTALL, "--no-remove", *(["--simulate"] if simulate else [])]
    before = list_installed(site)
    try:
        _watch([*argv, *names], on_line)
    except RamosError as error:
        if not simulate:
            _take_back(site, names, before)
        hint = "'apt-get check' tells whether the packages in RAM fit together."
        raise RamosError(
            "cannot install", ", ".join(names), error.reason, "The stick is as it was", hint
        ) from error


def _take_back(site: Site, names: Sequence[str], before: Mapping[str, Installed]) -> None:
    """A failing install leaves some packages unpacked: back to those that there were before.

    Their versions are still in the stick's repository, unless they came with the image.
    """
    if list_installed(site) == before:
        return
    there = {read_label(path) for path in list_packages(site)}
    old = [(name, before[name].version) for name in names if name in before]
    words = [f"{name}={version}" for name, version in old if (name, version) in there]
    words += [f"{name}-" for name in names if name not in before]
    run([*INSTALL, "--allow-downgrades", *words], env={**QUIET, "LC_ALL": "C.UTF-8"}, check=False)


def list_kernel_versions(site: Site, names: Iterable[str]) -> list[str]:
    """The kernels that installed stock packages had brought, by the files they list."""
    found = []
    for name in names:
        listing = site.root / "var/lib/dpkg/info" / f"{name}.list"
        lines = listing.read_text(errors="surrogateescape").splitlines() if listing.exists() else []
        matches = (MODULES_LINE.fullmatch(line) for line in lines)
        found += [match[1] for match in matches if match]
    return found


def plan_removal(_site: Site, names: Sequence[str]) -> Removal:
    """What would go with these packages: apt takes what needs them along."""
    argv = ["apt-get", *OURS, "remove", "--simulate", "-q", *names]
    said: list[str] = []
    _watch(argv, said.append)
    going = REMOVE_LINE.findall("\n".join(said))
    return Removal(tuple(going), tuple(name for name in going if name not in names))


def remove(_site: Site, names: Sequence[str], on_line: OnLine) -> None:
    """Remove packages; what a special one had left behind elsewhere is the engine's business."""
    argv = ["apt-get", *OURS, "remove", "-y", "-q", "-o", "Dpkg::Use-Pty=0", *names]
    _watch(argv, on_line)


def release_files(site: Site, name: str, recipe: Recipe) -> None:
    """Make dpkg forget what has left an installed stock package, and the scripts that go.

    Otherwise replacing it would delete the running kernel's modules from the system in RAM.
    """
    database = site.root / "var/lib/dpkg"
    with hold_lock(database / "lock-frontend", "packages", LOCK_WAIT_SECONDS, fcntl.lockf):
        info = database / "info"
        for listing in (*info.glob(f"{name}.list"), *info.glob(f"{name}:*.list")):
            lines = listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
            kept = [line for line in lines if not recipe.find_place(line.lstrip("/"))]
            write_changed(listing, "".join(f"{line}\n" for line in kept))
            for script in recipe.dropped_scripts:
                listing.with_suffix(f".{script}").unlink(missing_ok=True)


def write_settings(site: Site) -> None:
    """Tell apt about the stick's repository and about what is special."""
    hook = find_shipped_dir() / "debian" / HOOK.name
    texts = render_settings(site.recipes, hook, site.root, find_repository(site))
    texts[SOURCE_FILE] = render_source(find_repository(site))
    for name, text in texts.items():
        write_changed(site.root / name, text)


def _watch(argv: Sequence[str | Path], on_line: OnLine, **options: object) -> Result:
    """Run apt; where it fails, the reason is what it calls an error, not its last lines."""
    complaints: list[str] = []

    def note(line: str) -> None:
        if line.startswith(COMPLAINT):
            complaints.append(line.removeprefix(COMPLAINT))
        on_line(line)

    env = {**os.environ, **QUIET, "LC_ALL": "C.UTF-8"}
    try:
        return run_watched(argv, note, env, **options)
    except RamosError as error:
        reason = "; ".join(complaints) or error.reason
        raise RamosError(error.what, error.obj, reason, error.state, error.hint) from error


def _upstream(site: Site) -> list[str]:
    """Options for apt that leave the stick's own repository and pins out."""
    sources = _select_parts(site, "upstream", lambda name: name != Path(SOURCE_FILE).name)
    pins = _select_parts(site, "pins", lambda name: not name.startswith("ramos"), "preferences.d")
    caches = site.work / "apt-cache"
    caches.mkdir(parents=True, exist_ok=True)
    return [
        *("-o", f"Dir::Etc::SourceParts={sources}"),
        *("-o", f"Dir::Etc::PreferencesParts={pins}"),
        *("-o", f"Dir::Cache::pkgcache={caches}/pkgcache.bin"),
        *("-o", f"Dir::Cache::srcpkgcache={caches}/srcpkgcache.bin"),
    ]


def _select_parts(
    site: Site, name: str, wanted: Callable[[str], bool], source: str = "sources.list.d"
) -> Path:
    """A directory with links to some of apt's configuration files."""
    folder = site.work / f"apt-{name}"
    origin = site.root / "etc/apt" / source
    if not folder.is_dir():
        folder.mkdir(parents=True)
    for path in sorted(origin.iterdir()) if origin.is_dir() else ():
        link = folder / path.name
        if wanted(path.name) and not link.is_symlink():
            link.symlink_to(path)
    return folder

"""The base "debian": a root tree made by mmdebstrap from the machine's own mirrors.

Owns: which packages make a Debian image, where they come from, and what is set up the Debian way.
Refuses: sources of the machine that are not Debian's (other vendors' repositories), and an
initramfs made by Debian's own tools. Invariant: a tree has its final name only when it is whole.

`resolve`, `bootstrap` and `configure` are what every base has (see `alpine`).
"""

import hashlib
import http.client
import re
import shlex
import tempfile
import urllib.request
from pathlib import Path

from ramos.errors import RamosError
from ramos.image import debian_setup, debian_source
from ramos.image.plan import NoImageError, Origin, Plan, read_package_list
from ramos.linux import run
from ramos.linux.run import OnLine

# Raise this when the commands below change what is in a tree.
DEFAULT_INIT = "systemd"
RECIPE_VERSION = 1
TOOLS = ("mmdebstrap", "apt-config", "apt-get", "dpkg-deb", "unshare")
TIMEOUT_SECONDS = 15
OPTION_NAMES = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::Retries")
STAND_IN_CONTROL = """Package: ramos-initramfs
Version: 1
Architecture: all
Maintainer: RAMOS <root@localhost>
Provides: linux-initramfs-tool
Description: stands in for an initramfs generator: RAMOS makes its own
"""
# What apt says -> what failed, why, and the way out.
FAILURES = (
    (
        r"(?:Unable to locate package|Package) '?([a-z0-9][a-z0-9+.-]*)'?"
        r"(?: has no installation candidate)?",
        "unknown package",
        "{release} does not have it",
        "Correct --packages, or choose another --release.",
    ),
    (
        r"NO_PUBKEY|not signed|signatures couldn't be verified|BADSIG",
        "cannot trust the mirror",
        "the index of {release} is not signed by a trusted key",
        "Give the right keyring with --keys.",
    ),
    (
        r"No space left on device",
        "disk full",
        "there is no room for the root tree",
        "Free some space, or put --cache on another disk.",
    ),
    (
        r"Failed to fetch (\S+)",
        "cannot fetch",
        "the mirror did not give it",
        "Check the network, or name another mirror with --mirror.",
    ),
    (
        r"Hash Sum mismatch|unexpected size",
        "cannot trust the mirror",
        "a package is not what the signed index says",
        "Try again later, or name another mirror with --mirror.",
    ),
)
configure = debian_setup.configure


def list_packages(plan: Plan) -> tuple[str, ...]:
    """Every package that is asked for; dependencies come on their own."""
    sections = ["minimal", plan.init]
    if plan.profile == "rescue":
        sections.append("rescue")
    if plan.firmware_choice != "none":
        sections.append(f"firmware-{plan.firmware_choice}")
    if plan.keymap != "us":
        sections.append("keymap")
    names = read_package_list("debian", tuple(sections))
    return tuple(dict.fromkeys((*names, *plan.packages)))


def probe(plan: Plan) -> str:
    """Why this base cannot be had now; empty when it can."""
    try:
        source = resolve(plan)
    except RamosError as error:
        return f"{error.what}: {error.obj}: {error.reason}"
    return "" if source.state else f"{source.mirror} does not answer"


def resolve(plan: Plan) -> Origin:
    """Find the release on the mirror, and how the mirror stands now."""
    lines = debian_source.choose_sources(plan)
    states = [_read_state(line) for line in lines]
    state = hashlib.sha256(b"".join(states)).hexdigest() if all(states) else ""
    release = lines[0].suite
    config = "\n".join(line.text for line in lines)
    return Origin(release, lines[0].uri, config, state)


def _read_state(line: debian_source.SourceLine) -> bytes:
    """The signed index of one suite; empty when the mirror does not answer. apt checks it later."""
    uri = re.sub("^copy:", "file:", line.uri.rstrip("/"))
    url = f"{uri}/dists/{line.suite}/InRelease"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            data: bytes = answer.read()
            return data
    except (OSError, ValueError, http.client.HTTPException) as error:
        gone = isinstance(getattr(error, "reason", None), FileNotFoundError)
        if not gone and getattr(error, "code", 0) not in (403, 404, 410):
            return b""
        raise NoImageError(
            "unknown release",
            line.suite,
            f"{line.uri} does not have it",
            hint="Give --release with a Debian release name, such as bookworm.",
        ) from error


def bootstrap(plan: Plan, source: Origin, tree: Path, downloads: Path, on_line: OnLine) -> None:
    """Make the root tree at `tree`; packages are kept in `downloads` and taken from there."""
    with tempfile.TemporaryDirectory(prefix="stand-in-", dir=downloads) as directory:
        stand_in = make_stand_in(Path(directory))
        try:
            run.run_watched(plan_argv(plan, source, tree, downloads, stand_in), on_line)
        except RamosError as error:
            raise explain_failure(error, source) from error


def explain_failure(error: RamosError, source: Origin) -> RamosError:
    """What stopped mmdebstrap, in terms of what the user asked for."""
    for pattern, what, reason, hint in FAILURES:
        match = re.search(pattern, error.reason)
        if match:
            obj = match[1] if match.groups() else source.mirror
            reason = reason.format(release=source.release)
            return NoImageError(what, obj, reason, hint=hint)
    return RamosError(error.what, "mmdebstrap", error.reason, error.state, error.hint)


def make_stand_in(directory: Path) -> Path:
    """A package that says: this system makes its initramfs itself.

    Debian's kernels depend on one of its initramfs generators. Theirs would run at each kernel
    installation, for minutes on a stick, and make an initramfs that knows nothing of RAMOS.
    """
    control = directory / "package" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(STAND_IN_CONTROL, encoding="ascii")
    package = directory / "ramos-initramfs.deb"
    run.run(["dpkg-deb", "--build", "--root-owner-group", control.parent.parent, package])
    return package


def plan_argv(plan: Plan, source: Origin, tree: Path, downloads: Path, stand_in: Path) -> list[str]:
    """The mmdebstrap command; what it mounts (the tree's /proc) nobody else sees."""
    debs = shlex.quote(str(downloads))
    archives = '"$1"/var/cache/apt/archives'
    return [
        *("unshare", "--mount", "--"),
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--architectures=amd64",
        "--include=" + ",".join(list_packages(plan)),
        *(f"--dpkgopt={option}" for option in debian_setup.list_excludes(plan)),
        *(f"--aptopt={option}" for option in read_apt_options()),
        # Keep what was fetched, and fetch only what is not there yet.
        "--skip=download/empty,essential/unlink",
        f"--setup-hook=mkdir -p {archives} && find {debs} -name '*.deb' -maxdepth 1"
        f" -exec cp -alft {archives} {{}} +",
        f'--essential-hook=dpkg --root="$1" --install {shlex.quote(str(stand_in))}',
        f"--customize-hook=find {archives} -maxdepth 1 -name '*.deb' -exec cp -alft {debs} {{}} +",
        source.release,
        str(tree),
        *source.config.splitlines(),
    ]


def read_apt_options() -> list[str]:
    """How this machine's apt reaches its mirrors (proxies and the like): the image's must too."""
    dump = run.run(["apt-config", "dump"]).text
    return [
        line.rstrip(";").replace(' "', ' "', 1)
        for line in dump.splitlines()
        if line.startswith(OPTION_NAMES) and not line.endswith('"";')
    ]

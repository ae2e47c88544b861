"""The Debian mirrors that this machine already uses.

Owns: reading apt's two source formats, and choosing the lines for a release. Refuses: any source
that is not Debian itself (other vendors' repositories). Invariant: what is chosen names the
release, its updates and its security suite only where the machine (or --mirror) has them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ramos.image.plan import NoImageError, Plan

APT_DIR = Path("/etc/apt")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEFAULT_RELEASE = "bookworm"
DEBIAN_KEYRINGS = ("debian-archive-", "debian-keyring")
# The suites that belong to a release, by what follows its name.
SUITE_ENDINGS = ("", "-updates", "-security")


@dataclass(frozen=True)
class SourceLine:
    """One suite of one mirror."""

    uri: str
    suite: str
    components: tuple[str, ...]
    keyring: str

    @property
    def text(self) -> str:
        """The line as apt reads it."""
        signed = f" [signed-by={self.keyring}]" if self.keyring else ""
        return f"deb{signed} {self.uri} {self.suite} {' '.join(self.components)}"


def parse_one_line(text: str) -> Iterator[SourceLine]:
    """Lines of the form `deb [options] URI suite components`."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            options = dict(word.split("=", 1) for word in (match[1] or "").split() if "=" in word)
            keyring = options.get("signed-by", "")
            yield SourceLine(match[2], match[3], tuple(match[4].split()), keyring)


def parse_deb822(text: str) -> Iterator[SourceLine]:
    """Paragraphs of `Field: value` lines."""
    text = re.sub(r"(?m)^#.*\n?", "", text)
    for paragraph in re.split(r"\n\s*\n", text):
        fields = {
            match[1].lower(): " ".join(match[2].split())
            for match in re.finditer(r"(?m)^([A-Za-z-]+):((?:.*\n?(?:[ \t].*\n?)*))", paragraph)
        }
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "") == "no":
            continue
        keyring = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                components = tuple(fields.get("components", "").split())
                yield SourceLine(uri, suite, components, keyring if "/" in keyring else "")


def read_machine_sources(directory: Path = APT_DIR) -> list[SourceLine]:
    """Every source of this machine, whoever's it is."""
    found: list[SourceLine] = []
    files = [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))]
    for file in files:
        if not file.is_file() or file.suffix not in (".list", ".sources"):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        found += parse_deb822(text) if file.suffix == ".sources" else parse_one_line(text)
    return found


def read_codename(os_release: Path = Path("/etc/os-release")) -> str:
    """The Debian release of this machine; empty where it is not Debian."""
    try:
        text = os_release.read_text(encoding="utf-8")
    except OSError:
        return ""
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    is_debian = fields.get("ID", "").strip('"') == "debian"
    return fields.get("VERSION_CODENAME", "").strip('"') if is_debian else ""


def is_debian_source(line: SourceLine, codename: str) -> bool:
    """Whether a source is Debian's own, for the release that this machine runs."""
    suites = {f"{codename}{ending}" for ending in SUITE_ENDINGS}
    trusted = not line.keyring or Path(line.keyring).name.startswith(DEBIAN_KEYRINGS)
    fetchable = line.uri.startswith(("http://", "https://", "file:", "mirror"))
    return line.suite in suites and "main" in line.components and trusted and fetchable


def choose_sources(plan: Plan, directory: Path = APT_DIR) -> list[SourceLine]:
    """The sources of an image: --mirror, else this machine's."""
    codename = read_codename()
    release = plan.release or codename or DEFAULT_RELEASE
    keyring = str(plan.keys or KEYRING)
    if not Path(keyring).is_file():
        is_folder = Path(keyring).is_dir()
        raise NoImageError(
            "cannot check packages",
            keyring,
            "it is a directory" if is_folder else "there is no such keyring",
            hint="Install debian-archive-keyring, or name a keyring file with --keys.",
        )
    lines = []
    if not plan.mirror and codename:
        lines = [
            replace(line, suite=release + line.suite.removeprefix(codename))
            for line in read_machine_sources(directory)
            if is_debian_source(line, codename)
        ]
    if not any(line.suite == release for line in lines):
        lines = [SourceLine(_need_mirror(plan), release, ("main",), keyring)]
    lines = [
        SourceLine(find_uri(line.uri), line.suite, _components(plan, line), keyring)
        for line in lines
    ]
    # The release itself comes first: mmdebstrap takes its name from there.
    return sorted(dict.fromkeys(lines), key=lambda line: (line.suite != release, line.suite))


def _need_mirror(plan: Plan) -> str:
    if not plan.mirror:
        raise NoImageError(
            "no Debian mirror is known",
            APT_DIR,
            "this machine's sources name none",
            hint="Name one with --mirror (a URL or a directory).",
        )
    return plan.mirror


def find_uri(mirror: str) -> str:
    """A mirror as apt takes it: a directory of this machine is copied from, for the tree that is
    being made cannot see it."""
    if "://" not in mirror and not mirror.startswith(("file:", "copy:")):
        mirror = Path(mirror).absolute().as_uri()
    return re.sub("^file:", "copy:", mirror)


def _components(plan: Plan, line: SourceLine) -> tuple[str, ...]:
    """`main`, and what firmware needs: most of it is not free software."""
    extra = () if plan.firmware_choice == "none" else ("non-free-firmware",)
    return tuple(dict.fromkeys(("main", *extra, *line.components)))

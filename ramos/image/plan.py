"""What an image is to be: every choice of the builder, checked before anything is fetched.

Owns: the `Plan`, its defaults, the words that users may give, and the lists of packages. Refuses:
doing any of it. Invariant: a `Plan` whose `WORDS` pass can be carried out as far as words go; what
the machine and the mirror say to it is up to `checks`, and to the steps themselves.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from ramos.booted import ToRam
from ramos.errors import RamosError, UsageError
from ramos.linux.run import OnLine
from ramos.sizes import MIB, format_size, parse_size
from ramos.stick.luks import DEFAULT_MEMORY_MIB, HEADER_BYTES

HERE = Path(__file__).resolve().parent
ALIGNMENT_BYTES = 8 * MIB
ESP_BYTES = 272 * MIB
PERSIST_MINIMUM_BYTES = 64 * MIB
BASES = ("auto", "alpine", "debian")
PROFILES = ("rescue", "minimal")
FIRMWARE_CHOICES = ("none", "common", "all")
INITS = ("systemd", "openrc")
KERNELS = ("lts", "virt")
NAME_PATTERN = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
HOST_PATTERN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?")
TIMEZONE_PATTERN = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}")
KEYMAP_PATTERN = re.compile(r"[a-z][a-z0-9-]{1,30}")
PACKAGE_PATTERN = re.compile(r"[a-z0-9][a-z0-9+._-]*")
CONSOLE_PATTERN = re.compile(r"tty[A-Za-z]*[0-9]+(,[0-9]{3,7}[noe]?[78]?)?")
RELEASE_PATTERN = re.compile(r"([a-z0-9][a-z0-9.-]*)?")
# Names that a Linux system uses itself: a user of that name could not be told apart.
TAKEN = """
    root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc nobody
    adm tty disk kmem dialout sudo wheel audio video users shadow input kvm render
"""
TAKEN_NAMES = frozenset(TAKEN.split())


@dataclass(frozen=True)
class Word:
    """What a word of a plan has to look like, and how to say so."""

    option: str
    pattern: re.Pattern[str]
    takes: str


# By the field of the plan.
WORDS = {
    "user": Word("--user", NAME_PATTERN, "small letters, digits, - and _, up to 32"),
    "hostname": Word("--hostname", HOST_PATTERN, "letters, digits and -, up to 64"),
    "timezone": Word("--timezone", TIMEZONE_PATTERN, "a name such as Europe/Berlin"),
    "keymap": Word("--keymap", KEYMAP_PATTERN, "a layout such as us, de or fr"),
    "packages": Word("--packages", PACKAGE_PATTERN, "package names, separated by commas"),
    "consoles": Word("--console", CONSOLE_PATTERN, "a device such as ttyS0,115200"),
    "release": Word("--release", RELEASE_PATTERN, "a release such as bookworm or 3.23"),
}


class NoImageError(RamosError):
    """An image that was begun could not be made."""

    usual_state = "No image was written"


@dataclass(frozen=True)
class Flag:
    """How a choice is given on the command line: from this come the option and its help."""

    help: str
    # Where the field's name does not suit.
    name: str = ""
    choices: tuple[str, ...] = ()
    limits: tuple[int, int] | None = None
    # The default as one would type it, and what is said where it is not typed.
    text: str = ""
    shown: str = ""
    # From what was typed to the value of the field.
    read: Callable[[str], object] = str


def choice(default: object, help: str, **more: Any) -> Any:  # click's word
    """A field of the plan that has an option; its other words are those of `Flag`."""
    return field(default=default, metadata={"flag": Flag(help, **more)})


def read_words(text: str) -> tuple[str, ...]:
    """Words with commas or spaces between them."""
    return tuple(word for word in re.split(r"[,\s]+", text) if word)


def read_size(text: str) -> int:
    """A size such as 64M, as whole MiB; nothing is 0."""
    return align(parse_size(text), MIB) if text else 0


@dataclass(frozen=True)
class Plan:
    """Everything that decides what is in an image, and where it goes."""

    base: str = choice(
        "auto",
        "What the system is made of; auto: Alpine where its mirror answers, else Debian.",
        choices=BASES,
    )
    output: Path = choice(Path("ramos.img"), "The image file.", shown="ramos.img")
    cache: Path = choice(
        Path(), "Where downloads and parts are kept between builds.", shown="~/.cache/ramos"
    )
    release: str = choice("", "The base's release, such as bookworm or 3.23.")
    profile: str = choice(
        "rescue",
        "rescue: tools for data recovery and file systems; minimal: what boots.",
        choices=PROFILES,
    )
    init: str = choice(
        "",
        "The init system of a Debian image, systemd by default (Alpine's is OpenRC).",
        choices=INITS,
    )
    kernel: str = choice(
        "lts", "Alpine's kernel: lts for real machines, virt for virtual ones.", choices=KERNELS
    )
    packages: tuple[str, ...] = choice((), "More packages, separated by commas.", read=read_words)
    firmware: str = choice(
        "",
        "Firmware for devices; default: common with rescue, none with minimal.",
        choices=FIRMWARE_CHOICES,
    )
    mirror: str = choice("", "Fetch from this mirror (a URL or a directory).")
    keys: Path | None = choice(None, "Trust these keys in place of the base's own.")
    user: str = choice("user", "The name of the user.")
    password_hash: str = ""
    autologin: str = choice(
        "",
        "Whether the user is logged in by itself on the first screen and the serial console;"
        " default: yes without a password, no with one.",
        choices=("yes", "no"),
    )
    hostname: str = choice("ramos", "The machine's name.")
    timezone: str = choice("UTC", "Such as Europe/Berlin.")
    keymap: str = choice("us", "The keyboard: us, de, fr.")
    consoles: tuple[str, ...] = choice(
        ("tty0", "ttyS0,115200"),
        "A kernel console, the last one is the main one; may be repeated.",
        name="console",
        shown="tty0 and ttyS0,115200",
    )
    size_bytes: int = choice(
        0, "Its size, such as 4G; default: what it needs.", name="size", read=read_size
    )
    device_bytes: int = 0
    swap_bytes: int = choice(
        64 * MIB, "The swapfile on persist; 0: none.", name="swap", text="64M", read=read_size
    )
    encrypt: bool = choice(False, "Keep persist inside LUKS2.")
    passphrase: bytes = field(default=b"", repr=False)
    unlock_memory_mib: int = choice(
        DEFAULT_MEMORY_MIB,
        "For --encrypt: MiB that unlocking takes; the weakest machine must have them.",
        name="unlock-memory",
        limits=(1, 4096),
    )
    toram: str = choice(
        "later",
        "When the images go to RAM: at boot, a minute after it where there is room, or never.",
        choices=tuple(map(str, ToRam)),
    )
    compression_level: int = choice(
        3,
        "The zstd level of the images: 19 takes minutes and saves a seventh.",
        name="level",
        limits=(1, 22),
    )
    epoch: int | None = None

    @property
    def firmware_choice(self) -> str:
        """Which firmware goes in: what was asked for, else what suits the profile."""
        return self.firmware or ("common" if self.profile == "rescue" else "none")

    @property
    def logs_in(self) -> bool:
        """Whether the first consoles ask nothing: what was asked for, else where nobody could."""
        return self.autologin == "yes" or not (self.autologin or self.password_hash)


@dataclass(frozen=True)
class Origin:
    """Where a base comes from, as its mirror stands now.

    `config` is all that decides what would be fetched besides the plan; `state` changes whenever
    the mirror's indexes do, and is empty when the mirror does not answer.
    """

    release: str
    mirror: str
    config: str
    state: str


class Base(Protocol):
    """A base as the builder knows it: the modules `alpine` and `debian`."""

    DEFAULT_INIT: str
    RECIPE_VERSION: int

    @property
    def TOOLS(self) -> tuple[str, ...]:  # a constant of the module
        """What the building machine must have."""
        ...

    def probe(self, plan: Plan, /) -> str:
        """Why no mirror can be used; empty when one answers."""
        ...

    def resolve(self, plan: Plan, /) -> Origin:
        """Where its packages come from, now."""
        ...

    def list_packages(self, plan: Plan, /) -> tuple[str, ...]:
        """What is installed."""
        ...

    def bootstrap(
        self, plan: Plan, source: Origin, tree: Path, downloads: Path, on_line: OnLine, /
    ) -> None:
        """Make the root tree."""

    def configure(self, plan: Plan, root: Path, /) -> None:
        """Settings of this base, in a copy of the tree."""


def list_choices() -> list[Field[Any]]:
    """The fields that are chosen on the command line."""
    return [item for item in fields(Plan) if "flag" in item.metadata]


def read_choice(item: Field[Any], given: Any) -> Any:
    """The value of a field, from what its option gave; nothing given is the default."""
    if given in (None, (), ""):
        return item.default
    if isinstance(given, Path):
        return given.absolute()
    return item.metadata["flag"].read(given) if isinstance(given, str) else given


def align(size_bytes: int, to_bytes: int = ALIGNMENT_BYTES) -> int:
    """The next multiple of the alignment."""
    return -(-size_bytes // to_bytes) * to_bytes


def check_word(field: str, plan: Plan) -> None:
    """Refuse a word that can never work, naming its option and what that takes."""
    word, value = WORDS[field], getattr(plan, field)
    for text in value if isinstance(value, tuple) else (value,):
        if word.pattern.fullmatch(text) is None:
            raise UsageError(
                f"bad {word.option}", repr(text), f"it takes {word.takes}", "Nothing was done"
            )
    if field == "user" and value in TAKEN_NAMES:
        raise UsageError("bad user name", value, "the system uses it", hint="Take another.")


def minimum_size(plan: Plan, content_bytes: int) -> int:
    """The smallest image that takes this much content and can still be saved to."""
    # An ext4 of this kind needs some 3 % for its own tables, and the journal up to 64 MiB.
    persist = content_bytes + content_bytes // 32 + plan.swap_bytes + 2 * PERSIST_MINIMUM_BYTES
    header = HEADER_BYTES if plan.encrypt else 0
    return align(2 * ALIGNMENT_BYTES + ESP_BYTES + align(persist) + header)


def choose_size(plan: Plan, content_bytes: int) -> int:
    """The size of the image: as asked for, else what is needed and room for as much again."""
    smallest = minimum_size(plan, content_bytes)
    if 0 < (plan.device_bytes or plan.size_bytes) < smallest:
        raise too_small(plan, smallest)
    if plan.device_bytes:
        return smallest
    if not plan.size_bytes:
        return align(smallest + max(content_bytes, 512 * MIB), 256 * MIB)
    return plan.size_bytes // ALIGNMENT_BYTES * ALIGNMENT_BYTES


def too_small(plan: Plan, smallest: int) -> UsageError:
    """The error for a size, or a disk, that cannot hold the image."""
    needed = f"{-(-smallest // MIB)}M"
    size = format_size(plan.device_bytes or plan.size_bytes)
    hint = f"Give --size {needed} or more, or leave --size out."
    if plan.device_bytes:
        hint = "Take a larger disk, or fewer packages."
    place = "the disk" if plan.device_bytes else plan.output
    reason = f"{size} is too small, it needs {needed}"
    return UsageError("cannot build", place, reason, hint=hint)


def unknown_timezone(name: str, reason: str) -> UsageError:
    """The error for a time zone that there is not."""
    hint = "Give --timezone a name such as Europe/Berlin, or UTC."
    return UsageError("unknown time zone", name, reason, hint=hint)


def unknown_keymap(name: str, reason: str) -> UsageError:
    """The error for a keyboard that there is not."""
    hint = "Give --keymap a layout such as us, de or fr; on Debian also de-nodeadkeys."
    return UsageError("unknown keyboard layout", name, reason, hint=hint)


def read_package_list(base: str, sections: tuple[str, ...]) -> tuple[str, ...]:
    """The packages under the given headings of a base's list, without repetition."""
    return select_packages((HERE / f"{base}.packages").read_text(encoding="ascii"), sections)


def select_packages(text: str, sections: tuple[str, ...]) -> tuple[str, ...]:
    """Names below `[section]` headings; a # starts a comment."""
    chosen: dict[str, None] = {}
    section = ""
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 1 and words[0].startswith("["):
            section = words[0].strip("[]")
        elif section in sections:
            chosen.update(dict.fromkeys(words))
    return tuple(chosen)


def make_key(parts: Mapping[str, object]) -> str:
    """A short name for a set of inputs: equal inputs, equal name."""
    text = "".join(f"{name}={value!r}\n" for name, value in sorted(parts.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def summarize_plan(plan: Plan) -> dict[str, str]:
    """The choices that a person wants to see before anything happens."""
    return {
        "base": f"{plan.base} {plan.release}".strip(),
        "profile": plan.profile,
        "more packages": ", ".join(plan.packages) or "none",
        "firmware": plan.firmware_choice,
        "user": _describe_user(plan),
        "hostname": plan.hostname,
        "time zone": plan.timezone,
        "keyboard": plan.keymap,
        "encryption": "LUKS2 around persist" if plan.encrypt else "none",
        "goes to": "the disk below" if plan.device_bytes else str(plan.output),
    }


def _describe_user(plan: Plan) -> str:
    password = "with a password" if plan.password_hash else "without a password"
    return f"{plan.user} ({password}{', logged in by itself' if plan.logs_in else ''})"


def describe_plan(plan: Plan) -> dict[str, object]:
    """The plan for machines; secrets are nobody's business."""
    hidden = {"password_hash": bool(plan.password_hash), "passphrase": bool(plan.passphrase)}
    return {**asdict(plan), **hidden}

"""Every path and name of RAMOS, read from layout.env so that sh, GRUB and Python agree.

Owns: the words for places, and the places of a running system as one value, so that tests and a
second stick can use other ones. Refuses: looking at them, but for data that comes with RAMOS.
Invariant: a name that sh or GRUB also needs stands in layout.env, and only there.
"""

import re
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


def parse_env(text: str) -> dict[str, str]:
    """Read NAME=value lines; blank lines and comments are passed over."""
    lines = (line for line in text.splitlines() if line and line[0] != "#")
    return dict(line.split("=", 1) for line in lines)


ENV_FILE = HERE / "layout.env"
ENV = parse_env(ENV_FILE.read_text(encoding="ascii"))

VERSION = ENV["RAMOS_VERSION"]
ESP_LABEL = ENV["RAMOS_ESP_LABEL"]
PERSIST_LABEL = ENV["RAMOS_PERSIST_LABEL"]
PERSIST_DIR = Path(ENV["RAMOS_PERSIST_DIR"])
ROOTFS_IMAGE = ENV["RAMOS_ROOTFS_IMAGE"]
FIRMWARE_IMAGE = ENV["RAMOS_FIRMWARE_IMAGE"]
LAYERS_DIR = ENV["RAMOS_LAYERS_DIR"]
GENERATIONS_DIR = ENV["RAMOS_GENERATIONS_DIR"]
PINS_DIR = ENV["RAMOS_PINS_DIR"]
OLD_DEFAULT = ENV["RAMOS_OLD_DEFAULT"]
OLD_BACKUP = ENV["RAMOS_OLD_BACKUP"]
USER_DIR = ENV["RAMOS_USER_DIR"]
SWAPFILE = ENV["RAMOS_SWAPFILE"]
LOG_DIR = ENV["RAMOS_LOG_DIR"]
PACKAGES_DIR = ENV["RAMOS_PACKAGES_DIR"]
KERNELS_DIR = ENV["RAMOS_KERNELS_DIR"]
GRUB_CFG = ENV["RAMOS_GRUB_CFG"]
GRUBENV = ENV["RAMOS_GRUBENV"]
MENU_TITLES = ENV["RAMOS_MENU_TITLES"]
RUN_DIR = Path(ENV["RAMOS_RUN_DIR"])
BOOT_FILE = Path(ENV["RAMOS_BOOT_FILE"])
IN_RAM_FILE = Path(ENV["RAMOS_IN_RAM_FILE"])
BOOT_LOG = Path(ENV["RAMOS_BOOT_LOG"])
GUARD_PIPE = Path(ENV["RAMOS_GUARD_PIPE"])
UPPER_DIR = Path(ENV["RAMOS_UPPER_DIR"])
UPPER_RESERVE_BYTES = int(ENV["RAMOS_UPPER_RESERVE_MIB"]) << 20
STACK_DIR = Path(ENV["RAMOS_STACK_DIR"])
GENERATION_COPY = Path(ENV["RAMOS_GENERATION_COPY"])
LOCK_FILE = Path(ENV["RAMOS_LOCK_FILE"])
CONFIG_FILE = Path(ENV["RAMOS_CONFIG_FILE"])
CONFIG_DIR = Path(ENV["RAMOS_CONFIG_DIR"])
RECIPES_DIR = Path(ENV["RAMOS_RECIPES_DIR"])
SHARE_DIR = Path(ENV["RAMOS_SHARE_DIR"])

GENERATION_DIGITS = 6
# Below log/: how the system went down last.
LAST_SHUTDOWN = "last-shutdown.json"
# The directory of a second build of one kernel.
KERNEL_REVISION = re.compile(r"(.+)\+([0-9]{1,4})")


def modules_image(kernel: str) -> str:
    """The name of the modules image of one kernel."""
    return f"{ENV['RAMOS_MODULES_PREFIX']}{kernel}.squashfs"


def layer_path(sha256: str) -> str:
    """Where a layer lies, below persist."""
    return f"{LAYERS_DIR}/{sha256}.squashfs"


def sidecar_path(sha256: str) -> str:
    """Where the ACL sidecar of a commit lies, below persist."""
    return f"{LAYERS_DIR}/{sha256}.acl"


def generation_path(number: int) -> str:
    """Where a generation file lies, below persist."""
    return f"{GENERATIONS_DIR}/{number:0{GENERATION_DIGITS}d}"


def find_data(name: str) -> Path:
    """A folder of files that come with RAMOS: of the source tree, else where it is installed."""
    source = HERE.parent / name
    return source if source.is_dir() else SHARE_DIR / name


def kernel_version(name: str) -> str:
    """The version of the kernel in a directory."""
    match = KERNEL_REVISION.fullmatch(name)
    return match[1] if match else name


@dataclass(frozen=True)
class Places:
    """Every place that saving, reading and restoring needs."""

    persist: Path = PERSIST_DIR
    run: Path = RUN_DIR
    upper: Path = UPPER_DIR
    stack: Path = STACK_DIR
    root: Path = Path("/")

    @classmethod
    def below(cls, top: Path) -> "Places":
        """The same places below a directory."""
        run = top / "run"
        return cls(top / "persist", run, run / "upper", run / "layers", top / "root")

    @property
    def boot_file(self) -> Path:
        """What init found out: the mode, the generation, the stick."""
        return self.run / BOOT_FILE.name

    @property
    def lock_file(self) -> Path:
        """Held by whoever changes what is stored."""
        return self.run / LOCK_FILE.relative_to(RUN_DIR)

    @property
    def saved_file(self) -> Path:
        """What was saved earlier in this boot: the session and its index."""
        return self.run / "saved"

    @property
    def generation_file(self) -> Path:
        """Init's copy of the file of the generation that was booted."""
        return self.run / GENERATION_COPY.name

    @property
    def rollback_file(self) -> Path:
        """There while a rollback waits for the reboot."""
        return self.run / "rollback"

    @property
    def in_ram_file(self) -> Path:
        """There once all that the system consists of is in RAM."""
        return self.run / IN_RAM_FILE.name

    @property
    def ram_dir(self) -> Path:
        """Copies of images in RAM."""
        return self.run / "ram"

    @property
    def base_dirs(self) -> tuple[Path, ...]:
        """The mounted base images, topmost first."""
        folders = (self.run / name for name in ("modules", "firmware", "rootfs"))
        return tuple(folder for folder in folders if folder.is_dir())

    @property
    def upper_dir(self) -> Path:
        """The upperdir of the running overlay."""
        return self.upper / "upper"

    @property
    def snapshots_dir(self) -> Path:
        """Where snapshots of a btrfs upper are taken, and gone again after the commit."""
        return self.upper / "snapshots"

    @property
    def stage_dir(self) -> Path:
        """Where a tmpfs upper collects what a commit saves."""
        return self.upper / "stage"

"""Where the running system keeps the things that a save works on.

Owns: the set of places as one value, so that tests and a second stick can use other ones. Refuses:
looking at any of them. Invariant: with no arguments these are the places of the contract with the
initramfs (layout.env).
"""

from dataclasses import dataclass
from pathlib import Path

from ramos import layout


@dataclass(frozen=True)
class Places:
    """Every place that saving, reading and restoring needs."""

    persist: Path = layout.PERSIST_DIR
    run: Path = layout.RUN_DIR
    upper: Path = layout.UPPER_DIR
    stack: Path = layout.STACK_DIR
    root: Path = Path("/")

    @classmethod
    def below(cls, top: Path) -> "Places":
        """The same places below a directory."""
        run = top / "run"
        return cls(top / "persist", run, run / "upper", run / "layers", top / "root")

    @property
    def boot_file(self) -> Path:
        """What init found out: the mode, the generation, the stick."""
        return self.run / layout.BOOT_FILE.name

    @property
    def lock_file(self) -> Path:
        """Held by whoever changes what is stored."""
        return self.run / layout.LOCK_FILE.relative_to(layout.RUN_DIR)

    @property
    def saved_file(self) -> Path:
        """What was saved earlier in this boot: the session and its index."""
        return self.run / "saved"

    @property
    def generation_file(self) -> Path:
        """Init's copy of the file of the generation that was booted."""
        return self.run / layout.GENERATION_COPY.name

    @property
    def rollback_file(self) -> Path:
        """There while a rollback waits for the reboot."""
        return self.run / "rollback"

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

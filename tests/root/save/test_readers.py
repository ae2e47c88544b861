"""Reading commands of somebody who is not root: they work, and name nothing of anybody else's."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramos.errors import RamosError
from ramos.save.after import note_failure
from tests.conftest import REPOSITORY
from tests.labs.lab import Lab, call

USER, OTHER = 4242, 4343
SECRET = "very-private-name"
READING = ("status", "diff", "diff --all", "diff --stat", "log", "usage", "health")


def share(source: Path, target: Path) -> Path:
    """A folder at a place that everybody can walk to."""
    target.mkdir()
    call("mount", "--rbind", source, target)
    return target


@pytest.fixture
def lab(private_mounts: None) -> Iterator[Lab]:  # noqa: ARG001
    """A system with two users whose base is an image, where all of them can reach it."""
    call("mount", "-t", "tmpfs", "-o", "mode=755", "ramos-test", "/mnt")
    share(REPOSITORY, Path("/mnt/repository"))
    share(Path(sys.base_prefix), Path("/mnt/python"))
    top = Path("/mnt/lab")
    top.mkdir()
    made = Lab(top, persist_mib=96).make()
    top.chmod(0o755)
    base = made.places.run / "rootfs"
    for name, uid in (("user", USER), ("other", OTHER)):
        make_home(base / "home" / name, uid)
    call("mksquashfs", base, top / "base.squashfs", "-quiet", "-no-progress")
    call("mount", "-o", "loop,ro", top / "base.squashfs", base)
    boot(made)
    yield made
    made.shut_down()


def make_home(home: Path, uid: int) -> None:
    home.mkdir(parents=True)
    home.chmod(0o700)
    os.chown(home, uid, uid)


def boot(lab: Lab, **ways: str) -> None:
    """What init closes is closed."""
    for name, value in ways.items():
        setattr(lab, name, value)
    lab.boot()
    mode = lab.places.boot_file.read_text()
    lab.places.boot_file.write_text(f"{mode}restore={lab.restore}\n")
    for folder in (lab.places.upper, lab.places.stack):
        folder.chmod(0o700)


def become(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []


def run(lab: Lab, uid: int, words: str, code: int = 0) -> str:
    """A command of ramos as some user; all that it said."""
    paths = ["/mnt/repository"]
    for number, path in enumerate(p for p in sys.path if "site-packages" in p):
        place = Path(f"/mnt/packages-{number}")
        paths.append(str(place if place.exists() else share(Path(path), place)))
    python = f"/mnt/python/bin/{Path(sys.executable).resolve().name}"
    done = subprocess.run(
        [*become(uid), python, "-m", "ramos", *words.split()],
        capture_output=True,
        text=True,
        cwd="/",
        env={
            **os.environ,
            "RAMOS_TREE": str(lab.top),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        check=False,
    )
    assert done.returncode == code, (words, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def ask(lab: Lab, uid: int, words: str) -> dict[str, object]:
    return dict(json.loads(run(lab, uid, f"{words} --json")))


def write(lab: Lab, uid: int, name: str, size: int = 1000) -> None:
    path = lab.places.root / name
    path.write_bytes(os.urandom(size))
    os.chown(path, uid, uid)


def read_as_user(lab: Lab) -> bytes:
    """All that a user can read of what is not the running system's own tree."""
    folders = [str(lab.places.run), str(lab.places.persist)]
    find = ["find", *folders, "-xdev", "-type", "f", "-readable", "-exec", "cat", "{}", "+"]
    done = subprocess.run([*become(USER), *find], capture_output=True, check=False)
    return done.stdout


def names(told: dict[str, object]) -> list[str]:
    assert isinstance(told["changes"], list)
    return [change["path"] for change in told["changes"]]


@pytest.mark.parametrize("restore", ["mount", "unpack"])
def test_every_reading_command_before_and_after_a_save(lab: Lab, restore: str) -> None:
    write(lab, USER, "home/user/first")
    run(lab, 0, "commit")
    boot(lab, restore=restore)
    run(lab, 0, "status")  # what root sees is published, as it is at boot
    run(lab, 0, "health")
    assert names(ask(lab, USER, "diff")) == []
    write(lab, USER, "home/user/mine", 100_000)
    write(lab, USER, "home/user/first")
    write(lab, OTHER, "tmp/excluded")
    (lab.places.root / "b/empty").mkdir()
    for words in READING:
        run(lab, USER, words)
    told = ask(lab, USER, "diff")
    assert (names(told), told["partial"]) == (
        ["b/empty", "home/user/first", "home/user/mine"],
        True,
    )
    rows = ask(lab, USER, "usage")["directories"]
    assert {"/home/user"} <= {row["path"] for row in rows}  # type: ignore[attr-defined]
    assert "[default,running,booted]" in run(lab, USER, "log")
    assert "of what you can see yours 2," in run(lab, USER, "status")
    assert "as of " in run(lab, USER, "health")
    run(lab, 0, "commit")
    assert names(ask(lab, USER, "diff")) == []
    assert "nothing that you can see" in run(lab, USER, "status")
    assert "running      generation 2" in run(lab, USER, "status")
    write(lab, USER, "home/user/mine")
    assert names(ask(lab, USER, "diff")) == ["home/user/mine"]
    for words in READING:
        run(lab, USER, words)
    assert ask(lab, USER, "health")["commits"] == 2


def test_no_name_of_anybody_elses_file_is_told(lab: Lab) -> None:
    folder = lab.places.root / "home/other" / SECRET
    folder.mkdir()
    deep = folder
    for _ in range(20):  # too deep to be saved: reports name it
        deep /= "d" * 200
        subprocess.run(["mkdir", deep.name], cwd=deep.parent, check=False)
    write(lab, OTHER, f"home/other/{SECRET}/file", 300_000)
    note_failure(lab.places, "save", RamosError("cannot read", folder / "file", "it is damaged"))

    def look() -> None:
        assert SECRET in run(lab, 0, "status"), "root is told"
        run(lab, 0, "health")
        for words in READING:
            for option in ("", " --json"):
                assert SECRET not in run(lab, USER, words + option), words
        published = read_as_user(lab)
        assert b'"what": "save"' in published
        assert SECRET.encode() not in published

    look()
    assert "yours 1, the system's 0 (293.0 KiB), as of" in run(lab, USER, "status")
    assert SECRET in run(lab, 0, "commit")
    look()


def test_what_is_saved_is_for_root_alone(lab: Lab) -> None:
    """Layers, their ACLs and the index of the upper have every name, and shadow among them."""
    write(lab, OTHER, f"home/other/{SECRET}")
    call("setfacl", "-m", "u:1:r", lab.places.root / "home/other" / SECRET)
    run(lab, 0, "commit")
    run(lab, 0, "export default /mnt/lab/out.squashfs")
    run(lab, 0, "import /mnt/lab/out.squashfs")
    run(lab, 0, "compact --all")
    files = [lab.places.saved_file, *(lab.places.persist / "upperfs/layers").iterdir()]
    assert {path.suffix for path in files} == {"", ".squashfs", ".acl"}
    for path in files:
        assert path.stat().st_mode & 0o077 == 0, path
    assert run(lab, USER, "log").count("\n") == 2
    assert "incomplete" not in run(lab, USER, "log"), "that it is there everybody can see"


def test_a_user_cannot_save_or_publish(lab: Lab) -> None:
    write(lab, USER, "home/user/mine")
    assert "cannot start" in run(lab, USER, "commit", code=1)
    assert "nothing was published" in run(lab, USER, "health", code=1)
    run(lab, 0, "status")
    places = [lab.places.run / "public", *(lab.places.run / "public").iterdir()]
    assert [(path.stat().st_uid, path.stat().st_mode & 0o022) for path in places] == [(0, 0)] * 2

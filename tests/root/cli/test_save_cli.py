"""The commands of saving, as a user types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ramos.save.commit import CommitRequest, commit
from tests.labs.lab import Lab
from tests.labs.tree import ACL

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def lab(tmp_path: Path, private_mounts: None) -> Lab:  # noqa: ARG001
    return Lab(tmp_path, persist_mib=192).make().boot_first()


def ramos(lab: Lab, *words: str, code: int = 0) -> str:
    """Run the command on the laboratory's system; what it printed."""
    environment = {**os.environ, "RAMOS_TREE": str(lab.top), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "ramos", *words], capture_output=True, text=True, env=environment
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def reboot(lab: Lab) -> None:
    lab.boot()


def test_a_day_of_work(lab: Lab) -> None:
    root = lab.places.root
    (root / "etc/five").write_text("mine\n")
    os.utime(root / "etc/five", (1, 1))
    (root / "a/one").unlink()
    (root / "b/new\nname").write_text("x")
    assert ramos(lab, "diff").splitlines() == [
        "- /a/one",
        "+ /b/new\\nname",
        "~ /etc/five  (content, time)  14 B to 5 B",
    ]
    assert "would save 2 files" in ramos(lab, "commit", "--dry-run")
    said = ramos(lab, "commit", "-m", "one\ntwo")
    assert said.startswith("generation 1: 2 files, ")
    assert "pause" in said
    assert ramos(lab, "commit") == "nothing to save: yours 0, the system's 0\n"
    assert ramos(lab, "diff") == ""
    status = json.loads(ramos(lab, "status", "--json"))
    assert (status["running"], status["unsaved"]["files"]) == (1, 0)
    (root / "etc/five").write_text("mine again\n")
    os.utime(root / "etc/five", (1, 1))
    assert ramos(lab, "commit", "--pin").startswith("generation 2: 1 file")
    lines = ramos(lab, "log").splitlines()
    assert [line.split()[0] for line in lines] == ["2", "1"]
    assert "[default,running,pinned]" in lines[0]
    assert "one\\ntwo  [backup]" in lines[1]
    assert ramos(lab, "diff", "1", "2").splitlines() == ["~ /etc/five  (content)  5 B to 11 B"]
    assert "upperfs/layers/" in ramos(lab, "show", "backup")
    assert "all good" in ramos(lab, "verify", "--all")
    told = json.loads(ramos(lab, "restore-file", "1", "/etc/five", "--json"))
    assert (told["path"], told["entries"]) == (str(root / "etc/five"), 1)
    pinned = json.loads(ramos(lab, "pin", "1", "--json"))
    assert (pinned["generation"], pinned["pinned"]) == (1, True)
    assert not json.loads(ramos(lab, "unpin", "1", "--json"))["pinned"]
    assert (root / "etc/five").read_text() == "mine\n"
    ramos(lab, "restore-file", "default", "/etc", "--to", str(lab.top / "etc"))
    assert (lab.top / "etc/five").read_text() == "mine again\n"


def test_rollback_lasts_until_somebody_commits(lab: Lab) -> None:
    root = lab.places.root
    (root / "file").write_text("1")
    ramos(lab, "commit")
    (root / "file").write_text("2")
    ramos(lab, "commit")
    assert "unchanged until you reboot" in ramos(lab, "rollback")
    assert (root / "file").read_text() == "2"
    last = commit(lab.places, CommitRequest(config=lab.config, shutdown=True))
    assert (last.generation, last.notes[0].partition(":")[0]) == (
        0,
        "a rollback waits for the reboot",
    )
    assert json.loads(ramos(lab, "status", "--json"))["rollback"] == "1"
    reboot(lab)
    assert (root / "file").read_text() == "1"
    ramos(lab, "rollback", "2")
    (root / "file").write_text("3")
    assert "generation 5" in ramos(lab, "commit")
    reboot(lab)
    assert (root / "file").read_text() == "3"


def test_a_save_by_itself_calls_off_no_rollback(lab: Lab) -> None:
    root = lab.places.root
    for text in ("1", "2"):
        (root / "file").write_text(text)
        ramos(lab, "commit", "--unasked", "--reason", "timer")
    assert [line.split()[3] for line in ramos(lab, "log").splitlines()] == ["timer", "timer"]
    ramos(lab, "rollback")
    (root / "file").write_text("3")
    said = ramos(lab, "commit", "--unasked", "--reason", "timer")
    assert said.startswith("not saved\nnote: a rollback waits for the reboot")
    assert lab.numbers() == [1, 2, 3]
    assert json.loads(ramos(lab, "status", "--json"))["rollback"] == "1"
    assert "generation 4" in ramos(lab, "commit"), "whoever asks for it gets it"


def test_export_and_import(lab: Lab) -> None:
    root = lab.places.root
    (root / "file").write_text("1")
    (root / "a/one").unlink()
    os.setxattr(root / "file", "system.posix_acl_access", ACL)
    ramos(lab, "commit")
    (root / "b/three").unlink()
    ramos(lab, "commit")
    image = lab.top / "out.squashfs"
    told = json.loads(ramos(lab, "export", "default", str(image), "--json"))
    assert (told["generation"], told["size_bytes"]) == (2, image.stat().st_size)
    assert "it exists" in ramos(lab, "export", "default", str(image), code=2)
    assert (lab.top / "out.squashfs.acl").read_text().count("\n") == 1
    ramos(lab, "rollback", "1")
    told = json.loads(ramos(lab, "import", str(image), "--json"))
    assert (told["schema"], told["generation"], told["parent"]) == (1, 4, 3)
    reboot(lab)
    assert sorted(os.listdir(root / "a")) == ["two"]
    assert sorted(os.listdir(root / "b")) == ["c"]
    image.write_bytes(image.read_bytes()[:-4096])
    assert "whole squashfs image" in ramos(lab, "import", str(image), code=3)


def test_damage_is_named_and_stepped_over(lab: Lab) -> None:
    (lab.places.root / "file").write_bytes(os.urandom(100000))
    ramos(lab, "commit")
    (lab.places.root / "other").write_text("2")
    ramos(lab, "commit")
    layer = lab.places.persist / json.loads(ramos(lab, "show", "1", "--json"))["files"][0]["path"]
    data = bytearray(layer.read_bytes())
    data[5000] ^= 1
    layer.write_bytes(data)
    assert layer.name in ramos(lab, "verify", code=3)
    assert layer.name in ramos(lab, "rollback", code=3)
    generation = lab.places.persist / "upperfs/generations/000002"
    generation.write_bytes(generation.read_bytes()[:-1])
    assert "000002" in ramos(lab, "verify", "--all", code=3)
    assert json.loads(ramos(lab, "status", "--json"))["default"] == 1


def test_refusals(lab: Lab) -> None:
    places = lab.places
    (places.root / "file").write_text("1")
    places.boot_file.write_text("mode=clean\ngeneration=0\n")
    assert "--from-clean" in ramos(lab, "commit", code=2)
    places.boot_file.write_text("mode=default\ngeneration=0\npersist_uuid=00000000-0000\n")
    assert "another stick" in ramos(lab, "commit", code=1)
    places.boot_file.unlink()
    assert "cannot tell how this system started" in ramos(lab, "commit", code=1)
    places.boot_file.write_text("mode=default\ngeneration=0\n")
    assert "more than 1000 characters" in ramos(lab, "commit", "-m", "x" * 1001, code=2)
    assert "no such generation" in ramos(lab, "show", "7", code=2)
    assert "no such generation" in ramos(lab, "rollback", "99999999", code=2)
    places.lock_file.parent.mkdir(exist_ok=True)
    with places.lock_file.open("w") as lock:
        subprocess.run(["flock", "-n", str(lock.fileno())], pass_fds=(lock.fileno(),), check=True)
        assert "held by" in ramos(lab, "commit", code=4)
    subprocess.run(["mount", "-o", "remount,ro", places.persist], check=True)
    assert "read-only" in ramos(lab, "commit", code=1)
    subprocess.run(["umount", places.persist], check=True)
    assert "not mounted" in ramos(lab, "commit", code=1)
    assert ramos(lab, "status")

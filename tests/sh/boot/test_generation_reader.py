"""A generation file is read by sh exactly as Python reads it: both or neither take it."""

import hashlib
from pathlib import Path

import pytest

from ramos.errors import DamagedError
from ramos.store import generation
from tests.labs.harness import Machine, run_verbs

GOOD = generation.render(
    generation.Generation(
        7,
        6,
        -5,
        "6.1.0-1-amd64",
        "user",
        "a\nmessage=b\nend=c",
        (
            generation.StoredFile("rootfs", "rootfs.squashfs", 10, "a" * 64, "b" * 64),
            generation.StoredFile("layer", f"upperfs/layers/{'c' * 64}.squashfs", 5, "c" * 64),
        ),
    )
).rpartition("end=")[0]
# Files that a damaged stick, a hostile one or a later RAMOS could hold, each with a right sum.
EDITS = {
    "good": ("", ""),
    "newer": ("ramos-generation=1", "ramos-generation=2"),
    "other-number": ("generation=7", "generation=8"),
    "negative-parent": ("parent=6", "parent=-6"),
    "octal": ("generation=7", "generation=07"),
    "empty-parent": ("parent=6", "parent="),
    "long-number": ("parent=6", "parent=1234567890"),
    "no-created": ("created=-5\n", ""),
    "twice": ("parent=6\n", "parent=6\nparent=5\n"),
    "blank-line": ("parent=6\n", "parent=6\n\n"),
    "command": ("reason=user", "reason=$(reboot)"),
    "space": ("reason=user", "reason=a user"),
    "raw-message": ("message=", "message=<"),
    "percent": ("message=", "message=%%%zz"),
    "bad-kind": ("object=layer", "object=kernel"),
    "no-kind": ("object=layer 5 -", "object= 5 -"),
    "two-objects": ("object=layer 5 -", "object=layer 5 -\nobject=layer 5 -"),
    "star": ("object=layer 5 -", "object=layer * -"),
    "tab": ("object=layer 5 -", "object=layer\t5 -"),
    "extra-word": ("object=layer 5 -", "object=layer 5 - x"),
    "leading-space": ("object=layer 5 -", "object= layer 5 -"),
    "short-seal": (f"10 {'b' * 64}", f"10 {'b' * 63}"),
    "upper-case": ("a" * 64, "A" * 64),
    "absolute": ("  rootfs.squashfs", "  /rootfs.squashfs"),
    "dots": ("upperfs/layers", "upperfs/../layers"),
    "hidden": ("upperfs/layers", "upperfs/.layers"),
    "dash": ("  rootfs.squashfs", "  -rootfs.squashfs"),
    "slashes": ("upperfs/layers", "upperfs//layers"),
    "one-space": ("  rootfs.squashfs", " rootfs.squashfs"),
    "three-spaces": ("  rootfs.squashfs", "   rootfs.squashfs"),
    "spaced-path": ("rootfs.squashfs", "root  fs.squashfs"),
    "backslash": ("rootfs.squashfs", "root\\nfs"),
    "carriage": ("parent=6\n", "parent=6\r\n"),
    "nul": ("reason=user", "reason=us\0er"),
    "latin": ("reason=user", "reason=\xe4"),
    "base-above-layer": ("object=rootfs 10", "object=layer 10"),
    "no-files": (GOOD[GOOD.index("object=") :], ""),
}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "m")


def list_hostile() -> dict[str, bytes]:
    """All those files, and some whose sum is wrong or in the wrong place."""
    files = {name: sign(GOOD.replace(old, new, 1)) for name, (old, new) in EDITS.items()}
    lines = GOOD.splitlines(keepends=True)
    files["layer-first"] = sign("".join([*lines[:7], *lines[9:11], *lines[7:9]]))
    files["odd"] = sign("".join(lines[:-1]))
    files["no-newline"] = files["good"][:-1]
    files["two-newlines"] = files["good"] + b"\n"
    files["two-ends"] = sign(files["good"].decode())
    files["wrong-sum"] = files["good"][:-2] + b"0\n"
    files["no-end"] = GOOD.encode()
    files["empty"] = b""
    files["newline"] = b"\n"
    files["large"] = sign(GOOD.replace("message=", "message=" + "x" * 70000))
    return files


def sign(text: str) -> bytes:
    data = text.encode("latin-1")
    return data + b"end=" + hashlib.sha256(data).hexdigest().encode() + b"\n"


HOSTILE = list_hostile()


@pytest.mark.parametrize("name", HOSTILE)
def test_generation_is_read_as_python_reads_it(machine: Machine, shell: str, name: str) -> None:
    machine.write("persist/upperfs/generations/000007", HOSTILE[name])
    lines = 'read_generation 7 && printf "%s %s\\n%s" "$GEN_NUMBER" "$GEN_PARENT" "$GEN_FILES"'
    read = run_verbs(shell, machine.root, lines).stdout
    try:
        parsed = generation.parse(HOSTILE[name], "000007")
    except DamagedError:
        assert read == ""
        return
    files = [
        f"{file.kind} {file.size_bytes} {file.verity or '-'} {file.sha256} {file.path}\n"
        for file in parsed.files
    ]
    assert read == f"{parsed.number} {parsed.parent}\n{''.join(files)}"


def test_some_hostile_generations_are_refused_and_the_good_one_is_read() -> None:
    refused = 0
    for data in HOSTILE.values():
        try:
            generation.parse(data, "000007")
        except DamagedError:
            refused += 1
    assert refused == len(HOSTILE) - 5, "good, octal, percent, base-above-layer, no-files"

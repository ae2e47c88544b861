"""Ten thousand generation files, whole and broken: sh and Python read the same in each of them.

The cases come from a seed: mutations of a valid file, and lines of a grammar that holds right and
wrong forms of each. Most get a right checksum afterwards, so that every other check is reached.
"""

import hashlib
import os
import random
from pathlib import Path

import pytest

from ramos.errors import DamagedError
from ramos.store import generation
from tests.labs.harness import SHELLS, Machine, run_verbs

CASES = 10_000
DIGESTS = ("a" * 64, "0123456789abcdef" * 4, "A" * 64, "b" * 63, "c" * 65, "", "-", "é" * 32)
NUMBERS = (
    *("7", "07", "0000007", "8", "6", "0", "00", "", "-1", "+7", "7 ", " 7", "0x7", "7\r", "7e0"),
    *("999999999", "1000000000", "9" * 18, "9" * 19, "18446744073709551623", "4294967303"),
)
WORDS = (
    "6.1.0-28-amd64",
    "",
    "a b",
    "player-6.1",
    "$(reboot)",
    "x;y",
    "a=b",
    "end=",
    "ü",
    "*",
    "\\n",
)
PATHS = (
    *(
        "rootfs.squashfs",
        "modules-6.1-layer.squashfs",
        "modules-6.1 (copy).squashfs",
        "",
        "/x",
        "x/",
    ),
    *("a//b", "a/../b", "a/.b", "-x", "a/-b", ".x", "upperfs/layers/x", "x  y", " x", "*", "a\tb"),
)
KINDS = ("rootfs", "modules", "firmware", "layer", "acl", "kernel", "", "Layer", "layer ", "*")
BYTES = tuple(bytes([number]) for number in range(256))
PIECES = (
    *BYTES, b"\r\n", b"\n\n", b"end=", b"object=", b"\nend=" + b"a" * 64, b"  ", b"=", b"layer",
    b"\0" * 3, b"0" * 20, b"9" * 30, b"x" * 70000, b"parent=3\n", b"\xc3\xa9",
    b"object=layer 5 -\n",
)  # fmt: skip
READ = """
for NUMBER in $(seq 0 {last}); do
    RAMOS_GENERATIONS_DIR=cases/$NUMBER
    echo "== $NUMBER"
    read_generation 7 || continue
    printf '%s %s %s\\n%s' "$GEN_NUMBER" "$GEN_PARENT" "$GEN_KERNEL" "$GEN_FILES"
done
"""


def sign(body: bytes) -> bytes:
    return body + b"end=" + hashlib.sha256(body).hexdigest().encode() + b"\n"


def draw_number(chance: random.Random, usual: str) -> str:
    return usual if chance.random() < 0.97 else chance.choice(NUMBERS)


def draw_words(chance: random.Random, words: tuple[str, ...]) -> str:
    return words[0] if chance.random() < 0.97 else chance.choice(words)


def draw_header(chance: random.Random) -> list[str]:
    lines = [
        "ramos-generation=" + draw_words(chance, ("1", "01", "2", "", "1 ", "1\r", "9" * 12)),
        "generation=" + draw_number(chance, "7"),
        "parent=" + draw_number(chance, "6"),
        "created=" + draw_number(chance, "-5"),
        "kernel=" + draw_words(chance, WORDS),
        "reason=" + draw_words(chance, WORDS),
        "message=" + draw_words(chance, ("a%20b", "%zz", "", *WORDS)),
    ]
    if chance.random() < 0.1:
        first, second = chance.randrange(7), chance.randrange(7)
        lines[first], lines[second] = lines[second], lines[first]
    return lines


def draw_files(chance: random.Random) -> list[str]:
    lines = []
    for _ in range(chance.randrange(5)):
        kind = chance.choice(KINDS[:5] if chance.random() < 0.97 else KINDS)
        size = draw_number(chance, "4096")
        seal = (
            chance.choice(("-", DIGESTS[0])) if chance.random() < 0.97 else chance.choice(DIGESTS)
        )
        lines.append(f"object={kind} {size} {seal}")
        path = chance.choice(PATHS[:2] if chance.random() < 0.97 else PATHS)
        lines.append(f"{draw_words(chance, DIGESTS)}  {path}")
    return lines


def draw_by_grammar(chance: random.Random) -> bytes:
    lines = [*draw_header(chance), *draw_files(chance)]
    if chance.random() < 0.1:
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    if chance.random() < 0.1:
        del lines[chance.randrange(len(lines))]
    body = "".join(f"{line}\n" for line in lines).encode()
    if chance.random() < 0.05:
        body = body.replace(b"\n", b"\r\n")
    return body


def mutate(chance: random.Random, data: bytes) -> bytes:
    start = chance.randrange(len(data) + 1)
    end = min(len(data), start + chance.choice((0, 0, 1, 1, 2, 5, 60)))
    return data[:start] + chance.choice((b"", *PIECES)) + data[end:]


def draw_good(chance: random.Random) -> bytes:
    files = [generation.StoredFile("rootfs", PATHS[0], 10, DIGESTS[0], DIGESTS[1])]
    kinds = chance.sample(("modules", "firmware"), chance.randrange(3))
    kinds += ["layer", "acl"] * chance.randrange(3)
    for kind in kinds:
        files.append(generation.StoredFile(kind, PATHS[1], 4096, DIGESTS[1]))  # type: ignore[arg-type]
    made = generation.Generation(7, 6, -5, WORDS[0], "user", "a\nend=c", tuple(files))
    return generation.render(made).encode()


def draw_case(chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        data = draw_by_grammar(chance)
        return sign(data) if chance.random() < 0.95 else data
    data = draw_good(chance)
    if chance.random() < 0.2:
        return mutate(chance, data)
    body = mutate(chance, data.rpartition(b"end=")[0])
    if chance.random() < 0.3:
        body = mutate(chance, body)
    return sign(body)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Machine, list[bytes]]:
    chance = random.Random(os.environ.get("RAMOS_SEED", "generations"))
    machine = Machine(tmp_path_factory.mktemp("differential") / "m")
    drawn = [draw_case(chance) for _ in range(CASES)]
    for number, data in enumerate(drawn):
        machine.write(f"persist/cases/{number}/000007", data)
    return machine, drawn


def read_by_python(data: bytes) -> str:
    try:
        parsed = generation.parse(data, "000007")
    except DamagedError:
        return ""
    files = "".join(
        f"{file.kind} {file.size_bytes} {file.verity or '-'} {file.sha256} {file.path}\n"
        for file in parsed.files
    )
    return f"{parsed.number} {parsed.parent} {parsed.kernel}\n{files}"


@pytest.mark.parametrize("shell", SHELLS)
def test_differential_of_the_two_readers(cases: tuple[Machine, list[bytes]], shell: str) -> None:
    machine, drawn = cases
    done = run_verbs(shell, machine.root, READ.format(last=CASES - 1))
    parts = done.stdout.split("== ")[1:]
    assert len(parts) == CASES, done.stderr
    read = [part.partition("\n")[2] for part in parts]
    wanted = [read_by_python(data) for data in drawn]
    differ = [(drawn[n], read[n], wanted[n]) for n in range(CASES) if read[n] != wanted[n]]
    assert not differ, f"{len(differ)} of {CASES} differ, the first: {differ[0]!r}"
    taken = sum(bool(text) for text in wanted)
    assert CASES // 10 < taken < CASES // 2, "both kinds must be many"


def list_names() -> list[str]:
    """Names that a folder of generations could hold."""
    good = ["000001", "000042", "999999", "1000000", "999999999"]
    bad = ["000000", "0000042", "42", "00001", "9999999999", "00004x", "000042.tmp", "０００００１"]
    return [*good, *bad, " 000003", "000004 ", "-00005", "+00006", "0x0007", "000008\n"]


@pytest.mark.parametrize("shell", SHELLS)
def test_differential_of_the_names_that_count(tmp_path: Path, shell: str) -> None:
    from ramos.store.generations import list_numbers

    machine = Machine(tmp_path / "m")
    for name in list_names():
        machine.write(f"persist/upperfs/generations/{name}", "")
    read = run_verbs(shell, machine.root, 'list_generations; printf "%s\\n" "$NUMBERS"').stdout
    assert [int(word) for word in read.split()] == list_numbers(machine.root / "persist")[::-1]

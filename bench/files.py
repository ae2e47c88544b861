"""Files that behave like real ones: no two alike, half of them text, sizes from tiny to large.

Owns: making and changing trees for the benchmarks. Invariant: squashfs finds no duplicates in them
(copied files would look two to three times smaller than real ones).
"""

import random
from pathlib import Path

PARAGRAPHS = 4000
PARAGRAPH_BYTES = 600
FILES_A_FOLDER = 60


class Writer:
    """Makes content from a seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        words = [
            "".join(self.chance.choices(letters, k=self.chance.randrange(2, 11)))
            for _ in range(6000)
        ]
        self.text = [
            " ".join(self.chance.choices(words, k=PARAGRAPH_BYTES // 7)).encode() + b"\n"
            for _ in range(PARAGRAPHS)
        ]

    def make(self, size: int) -> bytes:
        """So many bytes: prose, or noise as in images and archives."""
        head = b"%032x\n" % self.chance.getrandbits(128)
        if self.chance.random() < 0.5:
            return (head + self.chance.randbytes(size))[:size]
        text = self.chance.choices(self.text, k=size // (PARAGRAPH_BYTES - 100) + 1)
        return (head + b"".join(text)).ljust(size, b"#")[:size]

    def share(self, total_bytes: int, count: int) -> list[int]:
        """Sizes of `count` files that make up the total: many small ones, some large."""
        weights = [self.chance.lognormvariate(0, 1.3) for _ in range(count)]
        whole = sum(weights)
        return [max(1, round(total_bytes * weight / whole)) for weight in weights]


def write_tree(root: Path, total_bytes: int, count: int, seed: int) -> None:
    """Fill a directory."""
    writer = Writer(seed)
    for number, size in enumerate(writer.share(total_bytes, count)):
        folder = root / f"{number // FILES_A_FOLDER // 20:02d}/{number // FILES_A_FOLDER:04d}"
        if number % FILES_A_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"file-{number:06d}").write_bytes(writer.make(size))


def change_tree(root: Path, total_bytes: int, count: int, seed: int) -> list[Path]:
    """Give some files (of those that `write_tree` made) new content; tells which."""
    writer = Writer(seed)
    folders = sorted(path for path in root.glob("*/*") if path.is_dir())
    changed = []
    for size in writer.share(total_bytes, count):
        path = writer.chance.choice(sorted(writer.chance.choice(folders).iterdir()))
        path.write_bytes(writer.make(size))
        changed.append(path)
    return changed

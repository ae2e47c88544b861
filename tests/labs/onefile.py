"""A program of a root tree made into one static file, with its loader and its libraries in it.

What a static build would be: the image builder runs one, and tests copy it into other roots.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import filelock

from ramos.linux import elf
from tests.labs.wheels import CACHE, need_programs

SOURCE = Path(__file__).with_suffix(".c")


def provide_onefile(root: Path, path: str) -> Path:
    """The program at `path` of the tree, as a file of that name that stands alone."""
    found = elf.find_libraries(root, [f"/{path}"])
    files = {Path(name).name: file for name, file in found.items()}
    loader = next(name for name in files if name.startswith("ld-"))
    program = Path(path).name
    files[program] = root / path
    digest = hashlib.sha256(SOURCE.read_bytes())
    for name in sorted(files):
        digest.update(name.encode() + files[name].read_bytes())
    kept = CACHE / "onefile" / f"{program}-{digest.hexdigest()[:12]}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(kept.with_suffix(".lock")):
        if not kept.exists():
            need_programs("gcc")
            part = kept.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            (part / "parts").mkdir(parents=True)
            for name, file in files.items():
                shutil.copyfile(file, part / "parts" / name)
                (part / "parts" / name).chmod(0o755)
            _compile(part, kept, loader, program)
            part.rename(kept)
    return kept / program


def _compile(part: Path, kept: Path, loader: str, program: str) -> None:
    names = sorted(os.listdir(part / "parts"))
    lines = [f'PART({n}, "{part}/parts/{name}")' for n, name in enumerate(names)]
    table = ", ".join(f'{{"{name}", part{n}, end{n}}}' for n, name in enumerate(names))
    lines += [f"#define PARTS {table}", f'#define KEPT "{kept}/parts"']
    lines += [f'#define OWN "/run/.{kept.name}"', f'#define LOADER "{loader}"']
    lines.append(f'#define PROGRAM "{program}"')
    (part / "parts.h").write_text("".join(f"{line}\n" for line in lines))
    flags = ("-static", "-O1", "-Wall", "-Werror", f"-I{part}")
    subprocess.run(["gcc", *flags, "-o", str(part / program), str(SOURCE)], check=True)

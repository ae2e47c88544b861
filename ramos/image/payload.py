"""RAMOS itself, as it lies in an image.

Owns: which files of the source tree go where, and a digest of them all. Refuses: knowing bases.
Invariant: what is installed depends on the sources and the plan alone, so that equal sources give
equal images; caches of the source tree (`__pycache__`) never travel.
"""

import gzip
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from ramos import layout
from ramos.config import Config
from ramos.image.common_setup import make_directories, replace_link, write_file
from ramos.image.plan import Plan
from ramos.linux import run

LIBRARY_DIR = "usr/lib/ramos"
DATA_FOLDERS = ("initramfs-hooks", "grub", "apk-triggers", "services", "keys")
LAUNCHER = """\
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/lib/ramos")
from {module} import main

main()
"""
LAUNCHERS = {"usr/bin/ramos": "ramos.__main__", "usr/sbin/ramosd": "ramos.daemon.loop"}
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/ramos",
    "zsh": "usr/local/share/zsh/site-functions/_ramos",
    "fish": "usr/share/fish/vendor_completions.d/ramos.fish",
}
MANUALS_DIR = "usr/share/man"
# What makes the index of `man -k`, of man-db and of mandoc: program, words.
INDEXERS = {"usr/bin/mandb": "-q", "usr/sbin/makewhatis": f"/{MANUALS_DIR}"}
OPENRC_RUNLEVEL = re.compile(r"^# runlevel: ([a-z]+)$", re.MULTILINE)


def list_sources() -> Iterator[tuple[str, Path]]:
    """Every file that travels: (its place in the image, the file)."""
    package = layout.HERE
    for path in _walk(package):
        yield f"{LIBRARY_DIR}/ramos/{path.relative_to(package)}", path
    for folder in DATA_FOLDERS:
        root = layout.find_data(folder)
        for path in _walk(root):
            yield f"usr/share/ramos/{folder}/{path.relative_to(root)}", path
    for path in _walk(layout.find_data("man")):
        yield f"{MANUALS_DIR}/man{path.suffix[1:]}/{path.name}.gz", path


def _walk(root: Path) -> Iterator[Path]:
    if not root.is_dir():
        return
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def digest_payload() -> str:
    """One digest of everything that travels: names, modes and bytes."""
    digest = hashlib.sha256()
    for place, path in list_sources():
        data = path.read_bytes()
        runs = os.access(path, os.X_OK)
        digest.update(f"{place}\0{runs:d}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def install_payload(plan: Plan, tree: Path) -> None:
    """Put RAMOS into a root tree."""
    for place, path in list_sources():
        data = path.read_bytes()
        if place.startswith(f"{MANUALS_DIR}/"):
            data = gzip.compress(data, mtime=0)
        write_file(tree / place, data, 0o755 if os.access(path, os.X_OK) else 0o644)
    for place, module in LAUNCHERS.items():
        write_file(tree / place, LAUNCHER.format(module=module), 0o755)
    index_manuals(plan.epoch, tree)
    install_config(tree)
    compile_python(tree)
    install_completion(tree)
    install_services(plan.init, plan.init, tree)
    # Services that the base itself lacks.
    install_services(f"{plan.init}-{plan.base}", plan.init, tree)


def index_manuals(epoch: int | None, tree: Path) -> None:
    """Let `man -k` find the pages of RAMOS: the packages' own index was made before they came.

    Where there is no such program (profile minimal) nobody reads manuals. No build fails for it.
    """
    if epoch is not None:
        for page in (tree / MANUALS_DIR).rglob("ramos*.gz"):
            os.utime(page, (epoch, epoch))  # the index has it
    for program, words in INDEXERS.items():
        if (tree / program).exists():
            run.run(["chroot", str(tree), f"/{program}", words], check=False)


def install_config(tree: Path) -> None:
    """Where a user writes: the settings as they are, and folders for files of one's own."""
    write_file(tree / layout.CONFIG_FILE.relative_to("/"), render_default_config())
    for folder in (layout.CONFIG_DIR, layout.RECIPES_DIR):
        make_directories(tree / folder.relative_to("/"))


def compile_python(tree: Path) -> None:
    """Byte code by the image's own Python: a stick has no time to compile at each start."""
    argv = ["chroot", str(tree), "/usr/bin/python3", "-I", "-m", "compileall", "-q"]
    argv += ["--invalidation-mode", "unchecked-hash", f"/{LIBRARY_DIR}"]
    run.run(argv, env={"PYTHONHASHSEED": "0"})


def install_completion(tree: Path) -> None:
    """Where each shell looks for what completes a command, whether it is there yet or not."""
    for shell, place in COMPLETIONS.items():
        argv = ["chroot", str(tree), "/usr/bin/python3", "-I", "/usr/bin/ramos"]
        done = run.run([*argv, "completion", shell])
        write_file(tree / place, done.stdout)


def install_services(folder: str, init: str, tree: Path) -> None:
    """The services of services/<folder>/, switched on."""
    source = tree / "usr/share/ramos/services" / folder
    for path in _walk(source):
        data = path.read_bytes()
        if init == "openrc":
            write_file(tree / "etc/init.d" / path.name, data, 0o755)
            runlevel = OPENRC_RUNLEVEL.search(data.decode("utf-8"))
            level = runlevel[1] if runlevel else "default"
            replace_link(tree / "etc/runlevels" / level / path.name, f"/etc/init.d/{path.name}")
        else:
            write_file(tree / "usr/lib/systemd/system" / path.relative_to(source), data)
            _enable_unit(tree, path.name, data.decode("utf-8"))


def _enable_unit(tree: Path, name: str, text: str) -> None:
    """What `systemctl enable` would do, without running it."""
    for match in re.finditer(r"^(WantedBy|RequiredBy)=(.+)$", text, re.MULTILINE):
        kind = "wants" if match[1] == "WantedBy" else "requires"
        for target in match[2].split():
            link = tree / f"etc/systemd/system/{target}.{kind}/{name}"
            replace_link(link, f"/lib/systemd/system/{name}")


def render_default_config() -> str:
    """ramos.toml with every key at its default, commented out."""
    lines = ["# Settings of RAMOS; see ramos.toml(5). A key without its # is set here.", ""]
    config = Config()
    for table in fields(config):
        section = getattr(config, table.name)
        lines.append(f"[{table.name}]")
        for item in fields(section):
            lines.append(f"# {item.metadata['doc']}")
            lines.append(f"#{item.name} = {_render_value(getattr(section, item.name))}")
        lines.append("")
    return "\n".join(lines)


def _render_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_render_value(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)

"""The files of a change below /persist/packages: brought, taken back, or kept for good.

    <base>/NAME                a package, or a note of what a package had left on the stick
    <base>/NAME.replaced       what had this name before the change that is under way

Owns: these files, and which packages the index of the stick's repository names. Refuses: writing
what is there already. Invariants: until a change is over, each file that was there before it is
there, under its name or beside it; the index names no package that is gone; taking back and
settling can be done twice.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ramos.linux.fs import TEMPORARY_SUFFIX, sync_directory, write_durably
from ramos.packages.site import Site

REPLACED_SUFFIX = ".replaced"


def list_new(site: Site, contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """Those of these files whose names are free."""
    return tuple(name for name in contents if not (site.packages / name).exists())


def bring(site: Site, contents: Mapping[str, bytes]) -> None:
    """Write the files of a change, keeping those that they replace."""
    for name, data in contents.items():
        path = site.packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if path.read_bytes() == data:
                continue
            os.link(path, _replaced(path))
        write_durably(path, data)


def take_back(site: Site, new: Iterable[str]) -> None:
    """Everything as it was before a change that had brought `new` files; the index too."""
    for replaced in sorted(site.packages.rglob(f"*{REPLACED_SUFFIX}")):
        replaced.rename(replaced.with_name(replaced.name.removesuffix(REPLACED_SUFFIX)))
        replaced.unlink(missing_ok=True)  # two names of one file: rename does nothing
    _delete(site, [site.packages / name for name in new])


def delete_old(site: Site) -> None:
    """A change is over: of each package stay the version that is installed, and the newest."""
    installed = site.manager.list_installed(site)
    versions: dict[str, dict[str, Path]] = {}
    for path in site.manager.list_packages(site):
        name, version = site.manager.read_label(path)
        versions.setdefault(name, {})[version] = path
    old = list(site.packages.rglob(f"*{REPLACED_SUFFIX}"))
    for name, found in versions.items():
        kept = {installed[name].version} if name in installed else set()
        kept |= {v for v in found if not any(site.manager.is_newer(other, v) for other in found)}
        old += [path for version, path in found.items() if version not in kept]
    _delete(site, old)


def delete_packages(site: Site, names: Iterable[str]) -> None:
    """Take packages out of the stick's repository, in every version."""
    gone = set(names)
    _delete(
        site, [p for p in site.manager.list_packages(site) if site.manager.read_label(p)[0] in gone]
    )


def sweep_temporaries(site: Site) -> None:
    """Remove what an interrupted write left."""
    for path in site.packages.rglob(f"*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def _delete(site: Site, paths: Iterable[Path]) -> None:
    """Delete files, packages among them: first from the index, which is thereby made anew."""
    doomed = set(paths)
    packages = site.manager.list_packages(site)
    if packages:
        site.manager.sign_repository(site, [path for path in packages if path not in doomed])
    for path in doomed:
        path.unlink(missing_ok=True)
    for folder in {path.parent for path in doomed if path.parent.is_dir()}:
        sync_directory(folder)


def _replaced(path: Path) -> Path:
    return path.with_name(f"{path.name}{REPLACED_SUFFIX}")

"""Adopting a stick that was laid out by hand in the older way.

Owns: turning `upperfs.squashfs` and `upperfs-backup.squashfs` at the root of persist into
generations 2 and 1. Refuses: a store that has generations already. Invariants: the old files keep
their names until both generations are durable, so a power cut leaves a stick that boots as before;
each step can be done again. Init could not know of generations that did not exist: from then on
the record of the boot names the one that runs, for each later save of this boot builds on it.
"""

import os
import re
import time
from dataclasses import replace

from ramos import layout
from ramos.booted import Boot, Mode
from ramos.layout import Places
from ramos.linux.fs import crash_point, sync_directory, sync_file, write_durably
from ramos.linux.verity import digest_file
from ramos.store.generation import Generation, StoredFile
from ramos.store.generations import list_generations, list_numbers, make_tree, publish_generation
from ramos.store.images import find_base_images

BACKUP_NUMBER, DEFAULT_NUMBER = 1, 2
REASON = "adopt"


def adopt_old_layout(places: Places, boot: Boot) -> Boot:
    """Make generations of an old layout; the boot then runs on one of them."""
    persist = places.persist
    old = {
        BACKUP_NUMBER: persist / layout.OLD_BACKUP,
        DEFAULT_NUMBER: persist / layout.OLD_DEFAULT,
    }
    present = {number: path for number, path in old.items() if path.exists()}
    taken = set(list_numbers(persist))
    if not present or not taken <= {BACKUP_NUMBER} or (taken and len(present) < 2):
        return _name_adopted(places, boot)
    make_tree(persist)
    base = find_base_images(persist, None)
    for number, path in present.items():
        digests = digest_file(path)
        path.chmod(0o600)
        layer = persist / layout.layer_path(digests.sha256)
        sync_file(path)
        if not layer.exists():
            os.link(path, layer)
            sync_directory(layer.parent)
        stored = StoredFile(
            "layer", layout.layer_path(digests.sha256), digests.size_bytes, digests.sha256
        )
        parent = BACKUP_NUMBER if number == DEFAULT_NUMBER and BACKUP_NUMBER in present else 0
        publish_generation(persist, _describe(number, parent, boot, (*base, stored)))
        crash_point("adopted")
    boot = _name_adopted(places, boot)
    for path in present.values():
        path.unlink()
    sync_directory(persist)
    return boot


def _name_adopted(places: Places, boot: Boot) -> Boot:
    """The boot with the generation that was made of what it runs on, if there is one."""
    number = {Mode.DEFAULT: DEFAULT_NUMBER, Mode.BACKUP: BACKUP_NUMBER}.get(boot.mode, 0)
    if boot.generation or not number:
        return boot
    if number not in (g.number for g in list_generations(places.persist) if g.reason == REASON):
        return boot
    text = places.boot_file.read_text(encoding="utf-8", errors="replace")
    named = re.sub(r"^generation=.*$", f"generation={number}", text, flags=re.MULTILINE)
    write_durably(places.boot_file, named.encode("utf-8"))
    return replace(boot, generation=number)


def _describe(number: int, parent: int, boot: Boot, files: tuple[StoredFile, ...]) -> Generation:
    message = "adopted from the older layout"
    return Generation(number, parent, int(time.time()), boot.kernel, REASON, message, files)

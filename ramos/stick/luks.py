"""LUKS2 around persist: encryption of an image file, and the keys that open it.

Owns: every call of cryptsetup on the data partition. Refuses: secrets on a command line, in the
environment or in a message (they travel through pipes), and a key derivation that the weakest
machine could not do. Invariant: the last key is never removed.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RefusedError, UsageError
from ramos.linux.run import Result, failure, run

HEADER_BYTES = 32 << 20
MAX_PASSPHRASE_BYTES = 512
# 64 MiB and four passes: 1.6 s under emulation, and it opens on a machine with 256 MiB.
DEFAULT_MEMORY_MIB = 64
PASSES = 4
WRONG_PASSPHRASE_CODE = 2


@dataclass(frozen=True)
class KeySlot:
    """One of the keys that open a device."""

    number: int
    derivation: str
    memory_kib: int


def check_passphrase(passphrase: bytes) -> bytes:
    """A passphrase that a keyboard can produce at boot."""
    if not passphrase:
        raise _bad("it is empty")
    if b"\n" in passphrase or b"\0" in passphrase:
        raise _bad("it holds a line break or a NUL byte, which cannot be typed at boot")
    if len(passphrase) > MAX_PASSPHRASE_BYTES:
        raise _bad(f"it is longer than {MAX_PASSPHRASE_BYTES} bytes")
    return passphrase


def read_passphrase_file(path: Path) -> bytes:
    """The passphrase in a file; one line break at its end does not count."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError("cannot read passphrase", path, error) from error
    return check_passphrase(data.removesuffix(b"\n").removesuffix(b"\r"))


def encrypt_file(
    path: Path, passphrase: bytes, memory_mib: int = DEFAULT_MEMORY_MIB, uuid: str = ""
) -> None:
    """Turn a file system in a file into LUKS2, in place.

    The file system must end HEADER_BYTES before the end of the file: that room holds the header.
    """
    argv = ["cryptsetup", "reencrypt", "--encrypt", "--type", "luks2"]
    argv += ["--reduce-device-size", f"{HEADER_BYTES >> 20}M", "--key-file", "-", "--batch-mode"]
    argv += [*_derivation(memory_mib), *(["--uuid", uuid] if uuid else []), str(path)]
    _cryptsetup(argv, path, check_passphrase(passphrase))


def is_encrypted(path: Path) -> bool:
    """Whether there is a LUKS header on a device or file."""
    return run(["cryptsetup", "isLuks", str(path)], check=False).code == 0


def list_keys(device: Path) -> tuple[KeySlot, ...]:
    """The keys that open a device."""
    done = _cryptsetup(["cryptsetup", "luksDump", "--dump-json-metadata", str(device)], device)
    slots = json.loads(done.stdout)["keyslots"]
    return tuple(
        KeySlot(int(number), slot["kdf"]["type"], int(slot["kdf"].get("memory", 0)))
        for number, slot in sorted(slots.items(), key=lambda item: int(item[0]))
    )


def opens(device: Path, passphrase: bytes) -> bool:
    """Whether a passphrase opens a device."""
    argv = ["cryptsetup", "open", "--test-passphrase", "--key-file", "-", str(device)]
    done = run(argv, stdin=passphrase, check=False)
    if done.code not in (0, WRONG_PASSPHRASE_CODE):
        raise failure(argv, done)
    return done.code == 0


def add_key(device: Path, current: bytes, new: bytes, memory_mib: int = DEFAULT_MEMORY_MIB) -> None:
    """Let a second passphrase open a device."""
    argv = ["cryptsetup", "luksAddKey", "--batch-mode", *_derivation(memory_mib)]
    _with_two_keys(argv, device, current, new)


def change_key(
    device: Path, current: bytes, new: bytes, memory_mib: int = DEFAULT_MEMORY_MIB
) -> None:
    """Replace one passphrase by another."""
    argv = ["cryptsetup", "luksChangeKey", "--batch-mode", *_derivation(memory_mib)]
    _with_two_keys(argv, device, current, new)


def remove_key(device: Path, passphrase: bytes) -> None:
    """Take a passphrase away; the last one stays."""
    if len(list_keys(device)) == 1:
        raise RefusedError(
            "cannot remove key",
            device,
            "it is the last one",
            hint="Add another key first: ramos key add.",
        )
    argv = ["cryptsetup", "luksRemoveKey", "--batch-mode", "--key-file", "-", str(device)]
    _cryptsetup(argv, device, passphrase)


def backup_header(device: Path, output: Path) -> None:
    """Write the LUKS header to a file: without it, a damaged header loses everything."""
    if output.exists():
        raise UsageError("cannot write", output, "it exists")
    argv = ["cryptsetup", "luksHeaderBackup", "--header-backup-file", str(output), str(device)]
    _cryptsetup(argv, device)


def _derivation(memory_mib: int) -> list[str]:
    """Fixed costs: what opens here must open on a weaker machine too."""
    argv = ["--pbkdf", "argon2id", "--pbkdf-memory", str(memory_mib << 10)]
    return [*argv, "--pbkdf-parallel", "1", "--pbkdf-force-iterations", str(PASSES)]


def _with_two_keys(argv: list[str], device: Path, current: bytes, new: bytes) -> None:
    check_passphrase(new)
    with _pipe(current) as old_fd, _pipe(new) as new_fd:
        words = [
            *argv,
            "--key-file",
            f"/proc/self/fd/{old_fd}",
            str(device),
            f"/proc/self/fd/{new_fd}",
        ]
        _cryptsetup(words, device, pass_fds=(old_fd, new_fd))


@contextlib.contextmanager
def _pipe(secret: bytes) -> Iterator[int]:
    """A descriptor from which a secret can be read once."""
    reader, writer = os.pipe()
    try:
        os.write(writer, secret)
        os.close(writer)
        yield reader
    finally:
        os.close(reader)


def _cryptsetup(
    argv: list[str], device: Path, secret: bytes | None = None, pass_fds: tuple[int, ...] = ()
) -> Result:
    done = run(argv, stdin=secret, check=False, pass_fds=pass_fds)
    if done.code == WRONG_PASSPHRASE_CODE:
        raise RefusedError(
            "cannot unlock",
            device,
            "no key is available with this passphrase",
            hint="Check the keyboard layout and caps lock.",
        )
    if done.code != 0:
        raise failure(argv, done)
    return done


def _bad(reason: str) -> UsageError:
    return UsageError("cannot use passphrase", "passphrase", reason)

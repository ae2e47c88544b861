"""Signatures of Alpine's packages and indexes.

Owns: making and checking RSA signatures (by the openssl command), key pairs, and what a `.SIGN`
entry is. Refuses: keys it was not given, and key names that are paths. Invariant: `verify` returns
only when a given key really made one of the signatures over exactly these bytes.
"""

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ramos.errors import RamosError
from ramos.linux.fs import write_durably
from ramos.linux.run import run

PREFIX = ".SIGN."
DIGESTS = {"RSA": "sha1", "RSA256": "sha256", "RSA512": "sha512"}
# Accepted by apk 2.14 and 3.0 alike.
SIGNATURE_TYPE = "RSA256"
KEY_NAME = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*")
KEY_BITS = 4096
OPENSSL_SECONDS = 120


@dataclass(frozen=True)
class Signature:
    """One signature: its type (RSA, RSA256, …), the file name of its key, and the raw bytes."""

    type: str
    key_name: str
    data: bytes

    @property
    def member_name(self) -> str:
        """The name of the archive entry that holds it."""
        return f"{PREFIX}{self.type}.{self.key_name}"


def parse_signature(member_name: str, data: bytes) -> Signature | None:
    """The signature that an archive entry holds, when it is of a known type."""
    kind, _, key_name = member_name.removeprefix(PREFIX).partition(".")
    if not member_name.startswith(PREFIX) or kind not in DIGESTS:
        return None
    return Signature(kind, key_name, data) if KEY_NAME.fullmatch(key_name) else None


def list_keys(directory: Path) -> list[Path]:
    """The public keys in a directory; having none is an error, not trust in everything."""
    try:
        keys = sorted(path for path in directory.iterdir() if path.name.endswith(".pub"))
    except OSError as error:
        raise RamosError("cannot read keys", directory, error) from error
    if not keys:
        raise RamosError("cannot read keys", directory, "there is no *.pub file in it")
    return keys


def verify(label: str, signatures: Iterable[Signature], data: bytes, keys: Path) -> Path:
    """The public key that made one of the signatures over `data`; none is an error."""
    signed = tuple(signatures)
    if not signed:
        raise untrusted(label, "it is not signed")
    known = {path.name: path for path in list_keys(keys)}
    fitting = [signature for signature in signed if signature.key_name in known]
    if not fitting:
        names = ", ".join(sorted({signature.key_name for signature in signed}))
        raise untrusted(label, f"signed with a key that is not trusted ({names})")
    for signature in fitting:
        if check_signature(signature, data, known[signature.key_name]):
            return known[signature.key_name]
    names = ", ".join(sorted({signature.key_name for signature in fitting}))
    raise untrusted(label, f"BAD signature (key {names}): it was changed after it was signed")


def untrusted(label: str, reason: str) -> RamosError:
    """The error for something that must not be used."""
    return RamosError(
        "cannot trust",
        label,
        reason,
        "Nothing of it was used",
        "Fetch it again, or check that the mirror and the directory of keys belong together.",
    )


def check_signature(signature: Signature, data: bytes, key: Path) -> bool:
    """Whether `key` made this signature over `data`."""
    with tempfile.NamedTemporaryFile(prefix="ramos-signature-") as file:
        file.write(signature.data)
        file.flush()
        digest = f"-{DIGESTS[signature.type]}"
        argv = ("openssl", "dgst", digest, "-verify", key, "-signature", file.name)
        result = run(argv, stdin=data, check=False, timeout_seconds=OPENSSL_SECONDS)
    if result.code not in (0, 1):
        raise RamosError("cannot use key", key, result.complaint)
    return result.code == 0


def sign(data: bytes, key: Path) -> Signature:
    """Sign bytes with a private key; its public half is known as `<name of the key>.pub`."""
    name = f"{key.name}.pub"
    if not KEY_NAME.fullmatch(name):
        raise RamosError("cannot sign", key, "a key's file name may hold letters, digits and ._@+-")
    argv = ("openssl", "dgst", f"-{DIGESTS[SIGNATURE_TYPE]}", "-sign", key)
    result = run(argv, stdin=data, check=False, timeout_seconds=OPENSSL_SECONDS)
    if result.code != 0:
        raise RamosError("cannot sign", key, result.complaint, "Nothing was written")
    return Signature(SIGNATURE_TYPE, name, result.stdout)


def make_key(key: Path, bits: int = KEY_BITS) -> Path:
    """Make a key pair, `key` (0600) and `key`.pub; return the public one."""
    public = key.with_name(f"{key.name}.pub")
    if key.exists():
        raise RamosError("cannot make key", key, "it exists already", "It was left alone")
    key.parent.mkdir(parents=True, exist_ok=True)
    private = run(("openssl", "genrsa", "-traditional", str(bits)), timeout_seconds=OPENSSL_SECONDS)
    half = run(("openssl", "rsa", "-pubout"), stdin=private.stdout, timeout_seconds=OPENSSL_SECONDS)
    write_durably(key, private.stdout, 0o600)
    write_durably(public, half.stdout)
    return public

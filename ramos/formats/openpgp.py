"""OpenPGP signatures (RFC 4880) with an RSA key that openssl holds: what apt's gpgv checks.

Owns: three packets, no more: a public key, the user id with its self-signature, and a detached
signature over a file. Refuses: holding secrets (openssl reads the key file), and reading what
others signed (apt does that). Invariant: the same key file always gives the same public key, so
that a keyring can be made anew at any time.

Why by hand: gpg wants its own key store and an agent that keeps running; the stick has one key
for both package managers, and openssl makes the RSA signature itself.
"""

import base64
import hashlib
import re
import struct
from pathlib import Path

from ramos.errors import RamosError
from ramos.linux.run import run

RSA, SHA256 = 1, 8
PUBLIC_KEY, SIGNATURE, USER_ID = 6, 2, 13
BINARY, POSITIVE_CERTIFICATION = 0x00, 0x13
CREATED, KEY_FLAGS, PREFERRED_HASHES, ISSUER, ISSUER_FINGERPRINT = 2, 27, 21, 16, 33
CERTIFY_AND_SIGN = 0x03
# A clock that is wrong when the key is made must not make it a key from the future.
KEY_TIME = 1_577_836_800
OPENSSL_SECONDS = 60


def make_public_key(key: Path, user: str) -> bytes:
    """The public half of a key as a keyring that gpgv reads."""
    body = _render_key(key)
    user_id = user.encode("utf-8")
    signed = b"\x99" + struct.pack(">H", len(body)) + body
    signed += b"\xb4" + struct.pack(">I", len(user_id)) + user_id
    hashed = _subpacket(KEY_FLAGS, bytes([CERTIFY_AND_SIGN]))
    hashed += _subpacket(PREFERRED_HASHES, bytes([SHA256]))
    signature = _sign(key, body, signed, POSITIVE_CERTIFICATION, KEY_TIME, hashed)
    return _packet(PUBLIC_KEY, body) + _packet(USER_ID, user_id) + _packet(SIGNATURE, signature)


def sign_detached(key: Path, data: bytes, time: int) -> str:
    """An ASCII-armored signature over a file, made at `time`."""
    body = _render_key(key)
    packet = _packet(SIGNATURE, _sign(key, body, data, BINARY, max(time, KEY_TIME), b""))
    return _armor("SIGNATURE", packet)


def find_fingerprint(key: Path) -> str:
    """By what the key is known."""
    return _fingerprint(_render_key(key)).hex().upper()


def _render_key(key: Path) -> bytes:
    """The body of the public key's packet."""
    argv = ("openssl", "rsa", "-in", key, "-noout", "-text")
    result = run(argv, check=False, timeout_seconds=OPENSSL_SECONDS)
    exponent = re.search(r"publicExponent: ([0-9]+)", result.text)
    modulus = re.search(r"modulus:\s*((?:\s*[0-9a-f]{2}:?)+)", result.text)
    if result.code != 0 or exponent is None or modulus is None:
        reason = result.complaint if result.code else "it is not an RSA key"
        raise RamosError("cannot use key", key, reason, "Nothing was signed")
    number = int(re.sub(r"[^0-9a-f]", "", modulus[1]), 16)
    head = struct.pack(">BIB", 4, KEY_TIME, RSA)
    return head + _integer(number) + _integer(int(exponent[1]))


def _sign(key: Path, body: bytes, data: bytes, kind: int, time: int, hashed: bytes) -> bytes:
    """The body of a signature packet, version 4."""
    fingerprint = _fingerprint(body)
    hashed = _subpacket(CREATED, struct.pack(">I", time)) + hashed
    hashed += _subpacket(ISSUER_FINGERPRINT, b"\x04" + fingerprint)
    head = struct.pack(">BBBBH", 4, kind, RSA, SHA256, len(hashed)) + hashed
    signed = data + head + b"\x04\xff" + struct.pack(">I", len(head))
    argv = ("openssl", "dgst", "-sha256", "-sign", key)
    result = run(argv, stdin=signed, check=False, timeout_seconds=OPENSSL_SECONDS)
    if result.code != 0:
        raise RamosError("cannot sign with", key, result.complaint, "Nothing was signed")
    unhashed = _subpacket(ISSUER, fingerprint[-8:])
    number = _integer(int.from_bytes(result.stdout, "big"))
    left_bits = hashlib.sha256(signed).digest()[:2]
    return head + struct.pack(">H", len(unhashed)) + unhashed + left_bits + number


def _fingerprint(body: bytes) -> bytes:
    data = b"\x99" + struct.pack(">H", len(body)) + body
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _integer(number: int) -> bytes:
    bits = number.bit_length()
    return struct.pack(">H", bits) + number.to_bytes((bits + 7) // 8, "big")


def _subpacket(kind: int, data: bytes) -> bytes:
    return bytes([len(data) + 1, kind]) + data


def _packet(tag: int, body: bytes) -> bytes:
    return bytes([0xC0 | tag, 0xFF]) + struct.pack(">I", len(body)) + body


def _armor(title: str, data: bytes) -> str:
    text = base64.b64encode(data).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    check = base64.b64encode(_crc24(data).to_bytes(3, "big")).decode("ascii")
    head, tail = f"-----BEGIN PGP {title}-----", f"-----END PGP {title}-----"
    return "\n".join([head, "", *lines, f"={check}", tail, ""])


def _crc24(data: bytes) -> int:
    value = 0xB704CE
    for byte in data:
        value ^= byte << 16
        for _ in range(8):
            value = (value << 1) ^ (0x1864CFB if value & 0x800000 else 0)
    return value & 0xFFFFFF

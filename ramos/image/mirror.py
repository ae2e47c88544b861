"""Files of a package mirror: from a URL or from a directory of this machine, into the cache.

Owns: fetching with a time limit, a size limit and a few tries. Refuses: judging what it fetched;
whoever asks checks signatures. Invariant: a file has its name only when it arrived whole; what
was asked for and could not be had is named, with the reason.
"""

import http.client
import math
import shutil
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ramos.errors import RamosError, find_reason
from ramos.sizes import format_size

TIMEOUT_SECONDS = 20
TRIES = 3
RETRY_SECONDS = 1.0
CHUNK_BYTES = 1 << 18
PART_SUFFIX = ".part"
NOT_THERE = (403, 404, 410)
HINT = "Check the network, or name another mirror with --mirror."


class NotThereError(RamosError):
    """The mirror answers, and does not have the file."""


class NoAnswerError(RamosError):
    """The mirror does not answer."""


def is_directory(mirror: str) -> bool:
    """Whether a mirror is a directory of this machine."""
    return "://" not in mirror


def normalize(mirror: str) -> str:
    """A mirror as it is used from here on: without a slash at its end, directories in full."""
    if mirror.startswith("file://"):
        mirror = mirror.removeprefix("file://")
    if is_directory(mirror):
        return str(Path(mirror).expanduser().absolute())
    return mirror.rstrip("/")


def fetch(
    mirror: str,
    name: str,
    output: Path,
    *,
    limit_bytes: int,
    expected_bytes: int | None = None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    total_seconds: float = math.inf,
    tries: int = TRIES,
) -> None:
    """Bring one file of a mirror; `expected_bytes` is its size when that is known.

    `timeout_seconds` is how long nothing may arrive, `total_seconds` how long one try may last.
    """
    part = output.with_name(output.name + PART_SUFFIX)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        if is_directory(mirror):
            _copy_file(mirror, name, part, limit_bytes)
        else:
            limits = _Limits(limit_bytes, timeout_seconds, total_seconds)
            _download(f"{mirror}/{quote(name)}", part, limits, tries)
        size_bytes = part.stat().st_size
        if expected_bytes is not None and size_bytes != expected_bytes:
            reason = f"{size_bytes} bytes arrived, the index says {expected_bytes}"
            raise RamosError("cannot fetch", f"{mirror}/{name}", reason, "It was not used")
        part.rename(output)
    finally:
        part.unlink(missing_ok=True)


def _copy_file(mirror: str, name: str, part: Path, limit_bytes: int) -> None:
    root = Path(mirror)
    if not root.is_dir():
        raise NoAnswerError("cannot use mirror", mirror, "there is no such directory", hint=HINT)
    source = root / name
    if not source.is_file():
        raise NotThereError("cannot fetch", source, "the mirror does not have it")
    try:
        _check_size(source, source.stat().st_size, limit_bytes)
        shutil.copyfile(source, part)
    except OSError as error:
        raise RamosError("cannot fetch", source, error) from error


def _check_size(source: object, size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise RamosError("cannot fetch", source, f"it is larger than {format_size(limit_bytes)}")


@dataclass(frozen=True)
class _Limits:
    """What one try may take."""

    size_bytes: int
    silence_seconds: float
    total_seconds: float


def _download(url: str, part: Path, limits: _Limits, tries: int) -> None:
    for attempt in range(1, tries + 1):
        try:
            _download_once(url, part, limits)
            return
        except urllib.error.HTTPError as error:
            if error.code in NOT_THERE:
                reason = f"the mirror does not have it ({error.code})"
                raise NotThereError("cannot fetch", url, reason) from error
            reason = f"the mirror says {error.code} {error.reason}"
        except urllib.error.URLError as error:
            reason = find_reason(error.reason)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = find_reason(error) or type(error).__name__
        if attempt < tries:
            time.sleep(RETRY_SECONDS * attempt)
    raise NoAnswerError("cannot fetch", url, reason, "Nothing of it was used", HINT)


def _download_once(url: str, part: Path, limits: _Limits) -> None:
    started = time.monotonic()
    request = urllib.request.Request(url, headers={"User-Agent": "ramos", "Accept": "*/*"})
    with (
        urllib.request.urlopen(request, timeout=limits.silence_seconds) as answer,
        part.open("wb") as file,
    ):
        length = answer.headers.get("Content-Length")
        while data := answer.read(CHUNK_BYTES):
            file.write(data)
            _check_size(url, file.tell(), limits.size_bytes)
            if time.monotonic() - started > limits.total_seconds:
                raise TimeoutError(f"it takes longer than {limits.total_seconds:.0f} s")
        if length is not None and file.tell() != int(length):
            raise ConnectionError(f"{file.tell()} of {length} bytes arrived")

"""Every root test runs in its own mount namespace: whatever it mounts is gone when it ends.

The package has one namespace (for fixtures that live longer than a test, such as `module` ones)
and each test a copy of it. Loop devices made by `mount -o loop` are freed with their last mount.
"""

import contextlib
import ctypes
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labs import alpine_root

CLONE_NEWNS = 0x00020000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
THREAD_SECONDS = 5.0
LIBC = ctypes.CDLL(None, use_errno=True)


def check(status: int, what: str) -> None:
    if status != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)


def go_back(namespace: int) -> None:
    """Into a mount namespace, which is for a process with one thread only.

    One that has been joined may still take the kernel a moment to end.
    """
    deadline = time.monotonic() + THREAD_SECONDS
    while (status := LIBC.setns(namespace, CLONE_NEWNS)) != 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    check(status, "setns")


@contextlib.contextmanager
def enter_mount_namespace() -> Iterator[None]:
    """Run the block in a copy of the mount namespace that no mount leaves, and come back."""
    directory = Path.cwd()
    outside = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(LIBC.unshare(CLONE_NEWNS), "unshare")
        check(LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "make / private")
        yield
    finally:
        go_back(outside)
        os.close(outside)
        os.chdir(directory)


@pytest.fixture(scope="package", autouse=True)
def private_package() -> Iterator[None]:
    """The namespace that fixtures of a wider scope than a test mount things in."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    with enter_mount_namespace():
        yield


@pytest.fixture(autouse=True)
def private_mounts() -> Iterator[None]:
    """The namespace of one test; a fixture that mounts for one test asks for this one first."""
    with enter_mount_namespace():
        yield


@pytest.fixture(scope="package")
def apk(request: pytest.FixtureRequest) -> Path:
    """The real apk, or each one that RAMOS_APK names."""
    return request.param or alpine_root.provide_apk()

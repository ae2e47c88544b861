"""Real root trees under the real apk, for the tests of Alpine's packages.

`RAMOS_APK` names one apk or several, with `:` between them: every test runs with each of them.
"""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import apk_tools
from tests.alpine_mirror import ARCH

REAL = [Path(word) for word in os.environ.get("RAMOS_APK", "").split(":") if word]
REASON = "needs the real apk: RAMOS_APK=/path/of/apk[:/path/of/another]"
# What apk says of itself: it wants a root that is not in RAM, or else a cache.
TEXT_TREE = ("lib/apk", "etc/apk", "var/log", "dev", "proc", "tmp", "var/cache", "run")


def name_version(apk: Path) -> str:
    """`2.14.10`, or whatever it is."""
    text = subprocess.run([apk, "--version"], capture_output=True, text=True, check=True).stdout
    return text.split()[1].rstrip(",")


@dataclass(frozen=True)
class Root:
    """A root tree and the real apk that looks after it."""

    apk: Path
    path: Path

    @property
    def is_old(self) -> bool:
        """Whether this is apk 2."""
        return name_version(self.apk).startswith("2.")

    def run(self, *words: str | Path, code: int | None = 0) -> str:
        """Run apk on this root; what it printed. `code` is the exit status that it must have."""
        argv = [self.apk, "--root", self.path, "--no-progress", "--no-interactive", *words]
        done = subprocess.run(argv, capture_output=True, check=False, cwd="/")
        text = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert code is None or done.returncode == code, f"{argv}: {done.returncode}\n{text}"
        return text

    def list_files(self) -> dict[str, tuple[object, ...]]:
        """All that is on it, but for apk's own state."""
        found = apk_tools.list_tree(self.path)
        return {n: v for n, v in found.items() if not n.startswith(TEXT_TREE)}

    def read_world(self) -> list[str]:
        return (self.path / "etc/apk/world").read_text().split()

    def read_record(self, name: str) -> list[str]:
        """The lines of a package in the database."""
        text = (self.path / "lib/apk/db/installed").read_text(errors="surrogateescape")
        records = [record.strip("\n").split("\n") for record in text.split("\n\n")]
        return next((lines for lines in records if f"P:{name}" in lines), [])


def make_root(apk: Path, path: Path, keys: Path, *repositories: str) -> Root:
    """An empty root that trusts these keys and knows these repositories."""
    (path / "etc/apk/keys").mkdir(parents=True)
    for key in keys.iterdir():
        (path / "etc/apk/keys" / key.name).write_bytes(key.read_bytes())
    (path / "etc/apk/repositories").write_text("".join(f"{line}\n" for line in repositories))
    root = Root(apk, path)
    root.run("--arch", ARCH, "--initdb", "add")
    return root


def sign_index(unsigned: Path, key: Path, output: Path) -> None:
    """Put a signature before an index as abuild-sign does: with openssl, tar and gzip."""
    data = unsigned.read_bytes()
    signature = apk_tools.run_tool("openssl", "dgst", "-sha1", "-sign", key, stdin=data)
    entry = {f".SIGN.RSA.{key.name}.pub": signature}
    output.write_bytes(apk_tools.run_tool("gzip", "-9n", stdin=apk_tools.cut_tar(entry)) + data)


def hash_data(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


each_real_apk = pytest.mark.parametrize(
    "apk", REAL or [pytest.param(None, marks=pytest.mark.skip(reason=REASON))], ids=str
)

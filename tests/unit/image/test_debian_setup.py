"""A keyboard on Debian: the layout is looked up, compiled, and left where the initramfs looks."""

import gzip
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ramos.errors import RamosError
from ramos.image import debian_setup
from ramos.linux import run

SYMBOLS = 'xkb_symbols "basic" {};\nxkb_symbols "nodeadkeys" {};\n'


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree that knows one layout, and whose tools say which one they were asked for."""
    (tmp_path / "usr/share/X11/xkb/symbols").mkdir(parents=True)
    (tmp_path / "usr/share/X11/xkb/symbols/de").write_text(SYMBOLS)

    def compile_keys(argv: list[Any], stdin: bytes = b"") -> SimpleNamespace:
        return SimpleNamespace(stdout=stdin or b"keycode of " + " ".join(argv[-4:]).encode())

    monkeypatch.setattr(run, "run", compile_keys)
    return tmp_path


@pytest.mark.parametrize(("keymap", "variant"), [("de", ""), ("de-nodeadkeys", "nodeadkeys")])
def test_a_keymap_is_there_for_the_initramfs_and_for_the_console(
    tree: Path, keymap: str, variant: str
) -> None:
    debian_setup.set_keymap(tree, keymap)
    compiled = gzip.decompress((tree / f"etc/keymap/{keymap}.bmap.gz").read_bytes())
    assert compiled == f"keycode of -layout de -variant {variant}".encode()
    assert f'XKBVARIANT="{variant}"' in (tree / "etc/default/keyboard").read_text()


@pytest.mark.parametrize("keymap", ["xx", "de-nodead", "de-none"])
def test_a_keymap_that_nobody_knows_is_refused(tree: Path, keymap: str) -> None:
    with pytest.raises(RamosError, match="unknown keyboard layout"):
        debian_setup.set_keymap(tree, keymap)
    assert not (tree / "etc/keymap").exists()

"""What apt is told on a stick, as text: pins, the hook, and which packages are special.

Owns: these texts. Refuses: files. Invariants: the stick's own repository wins over every mirror
for special packages; a mirror's special package is never taken for an upgrade, none is removed
because nothing needs it any more, and installing or removing one without the engine ends in the
hook, which says what to do instead.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ramos import layout
from ramos.formats.deb_package import LABEL, ORIGIN
from ramos.packages.recipe import Recipe, render_special

PINS_FILE = "etc/apt/preferences.d/ramos"
HOOK_FILE = "etc/apt/apt.conf.d/80ramos"
SPECIAL_FILE = "etc/apt/ramos-special"
SOURCE_FILE = "etc/apt/sources.list.d/ramos.sources"
HOOK = layout.SHARE_DIR / "apk-triggers" / "debian" / "apt-hook"
REPOSITORY = layout.PERSIST_DIR / layout.PACKAGES_DIR / "debian"
# Below 100 an installed package is never replaced; above 0 the hook can still say why not.
STOCK_PRIORITY = 50
OWN_PRIORITY = 990


def render_settings(
    recipes: Sequence[Recipe],
    hook: Path = HOOK,
    root: Path = Path("/"),
    repository: Path = REPOSITORY,
) -> dict[str, str]:
    """Every file below the root and its text; on a stick none of them depends on which it is."""
    debian = [recipe for recipe in recipes if recipe.base == "debian"]
    return {
        PINS_FILE: render_pins(debian),
        SPECIAL_FILE: render_special(debian, "debian"),
        HOOK_FILE: render_hook(debian, f"{hook} {root / SPECIAL_FILE} {repository}"),
    }


def render_pins(recipes: Sequence[Recipe]) -> str:
    """Who wins: the first record that matches a version decides."""
    names = " ".join(pattern for recipe in recipes for pattern in recipe.match)
    return (
        "Explanation: kernels, firmware and the like come from the stick's own repository.\n"
        f"Package: {names}\n"
        f"Pin: release o={ORIGIN},l={LABEL}\n"
        f"Pin-Priority: {OWN_PRIORITY}\n"
        "\n"
        "Explanation: never as a mirror has them; 'apt upgrade' has RAMOS bring what is newer.\n"
        f"Package: {names}\n"
        "Pin: release *\n"
        f"Pin-Priority: {STOCK_PRIORITY}\n"
    )


def render_hook(recipes: Sequence[Recipe], call: str) -> str:
    """apt's own configuration: the call of the hook, and what autoremove leaves alone.

    That is a little more than what is special: apt's expressions cannot take names out again.
    """
    patterns = [pattern for recipe in recipes for pattern in recipe.match]
    lines = (
        f'DPkg::Pre-Install-Pkgs {{ "{call}"; }};',
        f'APT::Update::Post-Invoke-Success {{ "{call} news"; }};',
        f'DPkg::Tools::Options::{call.split()[0]}::Version "3";',
        *(f'APT::NeverAutoRemove:: "{render_expression(pattern)}";' for pattern in patterns),
    )
    return "".join(f"{line}\n" for line in lines)


def render_expression(pattern: str) -> str:
    """A shell pattern as the regular expression that apt takes, without any backslash."""
    words = {".": "[.]", "+": "[+]", "*": ".*", "?": ".", "[": "[[]"}
    found = re.findall(r"\[.[^]]*\]|.", pattern)
    parts = ("[^" + part[2:] if part.startswith("[!") else words.get(part, part) for part in found)
    return f"^{''.join(parts)}$"


def render_source(repository: Path) -> str:
    """Where the stick's own packages are, and whose signature counts."""
    return f"Types: deb\nURIs: file:{repository}\nSuites: ./\nSigned-By: {repository}/ramos.gpg\n"

"""Recipes: the shipped ones are right, and wrong ones are refused with a clear reason."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramos.errors import RamosError
from ramos.packages.recipe import (
    BASES,
    drops_depend,
    find_recipe,
    order_recipes,
    parse_recipe,
    plan_package,
)

GOOD = """
base = "debian"
summary = "a kernel"
match = ["linux-image-*"]
except = ["*-dbg"]
after = ["kernel"]
[move]
"lib/modules/*" = "modules"
"boot/vmlinuz-*" = "kernel"
[scripts]
drop = "all"
replace = { postinst = "#!/bin/sh\\nexit 0\\n" }
[depends]
drop = ["initramfs-tools", "linux-initramfs-tool"]
"""


def shipped(repository: Path) -> list[Path]:
    return sorted((repository / "apk-triggers").glob("*.toml"))


def test_every_shipped_recipe_is_valid(repository: Path) -> None:
    recipes = [parse_recipe(path.read_text(), str(path)) for path in shipped(repository)]
    assert len(recipes) >= 11
    assert all(recipe.summary for recipe in recipes)


@pytest.mark.parametrize(
    ("base", "package", "recipe"),
    [
        ("alpine", "linux-lts", "linux-alpine"),
        ("alpine", "linux-virt", "linux-alpine"),
        ("alpine", "linux-stable", "linux-alpine"),
        ("alpine", "linux-edge", "linux-alpine"),
        ("alpine", "linux-lts-dev", None),
        ("alpine", "linux-lts-doc", None),
        ("alpine", "linux-headers", None),
        ("alpine", "linux-pam", None),
        ("alpine", "linux-firmware", "firmware-alpine"),
        ("alpine", "linux-firmware-none", "firmware-alpine"),
        ("alpine", "linux-firmware-brcm", "firmware-alpine"),
        ("alpine", "amd-ucode", "microcode-alpine"),
        ("alpine", "intel-ucode", "microcode-alpine"),
        ("alpine", "grub", "grub-alpine"),
        ("alpine", "grub-efi", "grub-alpine"),
        ("alpine", "grub-bios", "grub-alpine"),
        ("alpine", "mkinitfs", "mkinitfs"),
        ("alpine", "kernel-hooks", "kernel-hooks"),
        ("alpine", "htop", None),
        ("debian", "linux-image-amd64", "linux-debian"),
        ("debian", "linux-image-6.1.0-28-amd64", "linux-debian"),
        ("debian", "linux-image-6.1.0-28-amd64-dbg", None),
        ("debian", "linux-headers-amd64", None),
        ("debian", "firmware-iwlwifi", "firmware-debian"),
        ("debian", "firmware-linux-free", "firmware-debian"),
        ("debian", "firmware-tomu", None),
        ("debian", "grub-efi-amd64", "grub-debian"),
        ("debian", "grub-theme-starfield", None),
        ("debian", "initramfs-tools", "initramfs-tools"),
        ("debian", "intel-microcode", "microcode-debian"),
        ("debian", "amd64-microcode", "microcode-debian"),
        ("debian", "bash", None),
    ],
)
def test_shipped_recipes_match_what_they_should(
    repository: Path, base: str, package: str, recipe: str | None
) -> None:
    recipes = [parse_recipe(path.read_text(), str(path)) for path in shipped(repository)]
    matching = [r.name for r in recipes if r.base == base and r.matches(package)]
    assert matching == ([recipe] if recipe else [])


@pytest.mark.parametrize("base", ["alpine", "debian"])
@pytest.mark.parametrize("place", ["lib/firmware", "usr/lib/firmware"])
def test_firmware_leaves_from_either_of_its_places(repository: Path, base: str, place: str) -> None:
    """Alpine 3.23 has its files below /usr, and older ones have not."""
    recipes = [parse_recipe(path.read_text(), str(path)) for path in shipped(repository)]
    recipe = next(r for r in recipes if r.name == f"firmware-{base}")
    assert recipe.find_place(f"{place}/brcm/x.bin") == "firmware"


def test_a_recipe_means_what_it_says() -> None:
    recipe = parse_recipe(GOOD, "/etc/ramos/recipes.d/mine.toml")
    assert recipe.name == "mine"
    assert recipe.find_place("lib/modules/6.1/kernel/a.ko") == "modules"
    assert recipe.find_place("lib/modules") == ""
    assert recipe.find_place("boot/vmlinuz-6.1") == "kernel"
    assert "postinst" not in recipe.dropped_scripts
    assert recipe.replaced_scripts == (("postinst", "#!/bin/sh\nexit 0\n"),)


def test_a_plan_accounts_for_every_file() -> None:
    recipe = parse_recipe(GOOD, "r.toml")
    files = [("boot/vmlinuz-6", 7), ("lib/modules/6/a.ko", 5), ("usr/share/doc/x", 3)]
    plan = plan_package(
        recipe,
        files,
        ["postinst", "prerm"],
        ["kmod", "initramfs-tools (>= 1) | linux-initramfs-tool"],
    )
    assert [(p.place, p.files, p.size_bytes) for p in plan.parts] == [
        ("modules", 1, 5),
        ("kernel", 1, 7),
    ]
    assert (plan.stays_files, plan.stays_bytes) == (1, 3)
    assert plan.dropped_scripts == ("prerm",)
    assert plan.replaced_scripts == ("postinst",)
    assert len(plan.dropped_depends) == 1


def test_a_dependency_goes_only_when_every_alternative_does() -> None:
    recipe = parse_recipe(GOOD, "r.toml")
    assert drops_depend(recipe, "initramfs-tools>=0.1")
    assert drops_depend(recipe, "initramfs-tools:any | linux-initramfs-tool")
    assert not drops_depend(recipe, "initramfs-tools | dracut")
    assert not drops_depend(recipe, "kmod")


def test_own_recipes_win() -> None:
    shipped_one = parse_recipe(GOOD, "/usr/share/x/linux.toml")
    same = parse_recipe(GOOD.replace("a kernel", "mine"), "/etc/linux.toml")
    other = parse_recipe(GOOD.replace("a kernel", "other"), "/etc/other.toml")
    recipes = order_recipes([shipped_one], [same])
    assert [r.summary for r in recipes] == ["mine"]
    found = find_recipe(order_recipes([shipped_one], [other]), "linux-image-1", "debian")
    assert found == other
    assert find_recipe([shipped_one], "linux-image-1", "alpine") is None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"debian"', '"arch"', "base must be one of alpine, debian, not 'arch'"),
        ("except", "excpet", "line 5: no key 'excpet'; did you mean except?"),
        ('match = ["linux-image-*"]', "match = []", "match names no package"),
        ('["linux-image-*"]', '"linux-image-*"', "match must be a list"),
        ('["linux-image-*"]', '["a b"]', "'a b' is not a package name or pattern"),
        ('"modules"', '"module"', "no place 'module'"),
        ('"lib/modules/*"', '"/lib/modules"', "not a relative path"),
        ('"lib/modules/*"', '"lib/../x"', "not a relative path"),
        ('after = ["kernel"]', 'after = ["kernle"]', "no step 'kernle'; did you mean kernel?"),
        ('drop = "all"', 'drop = ["postrmm"]', "no script 'postrmm'; did you mean postrm?"),
        ("#!/bin/sh", "echo", "postinst does not begin with #!"),
        ("[depends]", "[depends]\nadd = []", "no key depends.add"),
        ('base = "debian"', "base = ", "Invalid value"),
        ("after = ", "after.x = ", "after must be a list"),
    ],
)
def test_a_wrong_recipe_is_refused(old: str, new: str, reason: str) -> None:
    assert old in GOOD
    with pytest.raises(RamosError) as caught:
        parse_recipe(GOOD.replace(old, new, 1), "r.toml")
    assert reason in str(caught.value)
    assert "r.toml" in str(caught.value)


@pytest.mark.parametrize("source", ["Mine.toml", "a b.toml", ".toml"])
def test_a_recipe_file_has_a_plain_name(source: str) -> None:
    with pytest.raises(RamosError, match="file name"):
        parse_recipe(GOOD, source)


@given(st.text(max_size=200), st.sampled_from(BASES))
def test_any_text_is_a_recipe_or_an_error(text: str, base: str) -> None:
    for candidate in (text, GOOD + text, f'base = "{base}"\n' + text):
        try:
            parse_recipe(candidate, "r.toml")
        except RamosError:
            continue

"""The builder's plan: what is refused before anything is fetched, and how large images are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ramos.errors import RamosError, UsageError
from ramos.image import checks, contents, partitions, plan
from ramos.image.plan import Plan
from ramos.sizes import MIB

GOOD = Plan(base="debian", output=Path("/x/stick.img"), cache=Path("/x/cache"), init="systemd")


def test_defaults_are_sound() -> None:
    for field in plan.WORDS:
        plan.check_word(field, GOOD)
    checks.check_size(GOOD)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("user", "Root User"),
        ("user", "root"),
        ("user", "www-data"),
        ("user", ""),
        ("user", "a:b"),
        ("user", "x" * 33),
        ("hostname", "two words"),
        ("hostname", "-dash"),
        ("hostname", "a\nb"),
        ("timezone", "../../etc/passwd"),
        ("timezone", "/UTC"),
        ("keymap", "de; reboot"),
        ("packages", ("good", "--option=bad")),
        ("packages", ("a b",)),
        ("consoles", ("ttyS0,115200 init=/bin/sh",)),
        ("release", "Bookworm; x"),
    ],
)
def test_bad_words_are_named(field: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        plan.check_word(field, replace(GOOD, **{field: value}))
    word = value[-1] if isinstance(value, tuple) else value
    assert str(word) in str(caught.value) or repr(word) in str(caught.value)


def test_a_size_too_small_says_what_is_needed() -> None:
    small = replace(GOOD, size_bytes=100 * MIB)
    with pytest.raises(UsageError) as caught:
        checks.check_size(small)
    assert "too small" in str(caught.value)
    with pytest.raises(UsageError, match=r"the disk: .* too small"):
        checks.check_size(replace(GOOD, device_bytes=300 * MIB))
    smallest = plan.minimum_size(small, 200 * MIB)
    assert plan.choose_size(replace(GOOD, size_bytes=smallest), 200 * MIB) == smallest
    with pytest.raises(RamosError):
        plan.choose_size(replace(GOOD, size_bytes=smallest - 1), 200 * MIB)


def test_the_default_size_has_room_for_as_much_again() -> None:
    for content in (10 * MIB, 200 * MIB, 900 * MIB):
        size = plan.choose_size(GOOD, content)
        assert size % plan.ALIGNMENT_BYTES == 0
        assert size >= plan.minimum_size(GOOD, content) + content


def test_package_lists() -> None:
    text = "[a]\none two # comment\n# three\n[b]\nfour\none\n[c]  # why\nfive\n"
    assert plan.select_packages(text, ("a",)) == ("one", "two")
    assert plan.select_packages(text, ("a", "b")) == ("one", "two", "four")
    assert plan.select_packages(text, ("c",)) == ("five",)


@pytest.mark.parametrize("base", ["debian", "alpine"])
def test_the_lists_of_the_bases(base: str) -> None:
    rescue = plan.read_package_list(base, ("rescue",))
    for name in ("testdisk", "ntfs-3g", "smartmontools", "nvme-cli", "hdparm", "partclone"):
        assert name in rescue
    everything = plan.read_package_list(base, ("minimal", "rescue", "firmware-common"))
    assert all(plan.PACKAGE_PATTERN.fullmatch(name) for name in everything)


def test_a_key_depends_on_every_part() -> None:
    assert plan.make_key({"a": 1, "b": 2}) == plan.make_key({"b": 2, "a": 1})
    assert plan.make_key({"a": 1, "b": 2}) != plan.make_key({"a": 2, "b": 1})
    assert plan.make_key({"a": "1"}) != plan.make_key({"a": 1})


def test_no_secret_is_described() -> None:
    secret = replace(GOOD, password_hash="$6$salt$hash")
    assert "$6$" not in repr(plan.describe_plan(secret))


def test_the_plan_for_machines_holds_no_secret() -> None:
    secret = replace(GOOD, encrypt=True, passphrase=b"open sesame", password_hash="$6$salt$hash")
    shown = plan.describe_plan(secret)
    assert (shown["passphrase"], shown["password_hash"]) == (True, True)
    text = repr((shown, plan.summarize_plan(secret)))
    assert "sesame" not in text
    assert "$hash" not in text


@pytest.mark.parametrize("word", ["now", "later", "no"])
def test_the_boot_menu_says_when_images_go_to_ram_unless_it_is_by_itself(word: str) -> None:
    identity = partitions.make_identity("seed")
    said = contents.make_menu(replace(GOOD, toram=word), identity).parameters
    assert [p for p in said if "toram" in p] == ([f"ramos.toram={word}"] if word != "later" else [])


@pytest.mark.parametrize(
    ("profile", "asked", "chosen"),
    [("minimal", "", "none"), ("rescue", "", "common"), ("rescue", "none", "none")],
)
def test_firmware_suits_the_profile_unless_it_is_asked_for(
    profile: str, asked: str, chosen: str
) -> None:
    told = plan.summarize_plan(replace(GOOD, profile=profile, firmware=asked))
    assert told["firmware"] == chosen

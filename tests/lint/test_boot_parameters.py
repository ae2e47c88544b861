"""What init takes from the kernel command line is what ramos-boot(7) says, and nothing else."""

import re

from tests.lint.rules import REPOSITORY

VERBS = REPOSITORY / "initramfs-hooks/lib/20-parameters.sh"
PAGE = REPOSITORY / "man/ramos-boot.7"
INIT = REPOSITORY / "initramfs-hooks/init"


def list_patterns() -> set[str]:
    """The `case` patterns of init's allow-list, but for the one that refuses all others."""
    lines = VERBS.read_text().splitlines()
    labels = [line.split(")")[0] for line in lines if re.match(r" +(ramos\.|init=)[^)]*\)", line)]
    return {pattern.strip() for label in labels for pattern in label.split("|")} - {"ramos.*"}


def list_documented() -> set[str]:
    """The heads of the PARAMETERS section as patterns of the same form."""
    section = PAGE.read_text().partition(".SH PARAMETERS")[2].partition(".SH ")[0]
    found = set()
    for line in re.findall(r"^\.TP\n(.+)", section, re.M):
        for head in line.removeprefix(".B ").split(", "):
            plain = re.sub(r"\\f[BIR]", "", head)
            name, equals, value = plain.partition("=")
            words = value.split("|")
            if all(re.fullmatch(r"[a-z]+", word) for word in words):
                found |= {f"{name}={word}" for word in words}
            elif equals:
                # A value that is put in by the user is written in capitals.
                found.add("init=/*" if name == "init" else re.sub(r"=[^=]+$", "=*", plain))
            else:
                found.add(name)
    return found


def test_parameters_are_documented() -> None:
    patterns = list_patterns()
    assert len(patterns) > 15
    assert patterns == list_documented()


def test_steps_are_documented() -> None:
    steps = re.findall(r"^run_step (\S+)", INIT.read_text(), re.M)
    page = PAGE.read_text()
    section = page.partition(".SH STEPS")[2].partition(".SH ")[0]
    assert re.findall(r"^\.TP\n\.B (\S+)", section, re.M) == steps
    allowed = re.search(r"is_step\(\) \{.*?\n    (drivers [^)]*)\)", VERBS.read_text(), re.S)
    assert allowed is not None
    assert sorted(allowed[1].split(" | ")) == sorted(steps)

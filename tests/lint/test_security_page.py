"""Every test that SECURITY.md names is there, and each of its lines names one."""

import re

from tests.lint import rules


def test_the_tests_that_hold_the_lines_are_there() -> None:
    text = (rules.REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[^`]*)`", text)
    assert named
    assert [name for name in named if not (rules.REPOSITORY / name).is_file()] == []
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row for row in rows if "`tests/" not in row] == []

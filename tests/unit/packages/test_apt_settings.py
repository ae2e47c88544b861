"""What apt is told: the same names are special to its regular expressions as to our patterns."""

import fnmatch
import re

import pytest

from ramos.packages.debian_settings import render_expression

NAMES = (
    "linux-image-6.1.0-1-amd64",
    "linux-image-",
    "linux-imageX",
    "my-linux-image-x",
    "a.b",
    "aXb",
)
PATTERNS = (
    "linux-image-*",
    "linux-image-6.1.0-?-amd64",
    "a.b",
    "a[.]b",
    "a[!.]b",
    "[a-c].b",
    "a[b",
    "g++",
    "*",
)


@pytest.mark.filterwarnings("ignore:Possible nested set")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_expressions_match_what_the_patterns_match(pattern: str) -> None:
    expression = re.compile(render_expression(pattern))
    for name in (*NAMES, "a[b", "g++", "ggg"):
        assert bool(expression.search(name)) == fnmatch.fnmatchcase(name, pattern), name

"""What a save refuses before it looks at anything."""

from types import SimpleNamespace
from typing import Any

import pytest

from ramos.booted import Mode
from ramos.errors import UsageError
from ramos.save.commit import CommitRequest, refuse_mode

DEFAULT: Any = SimpleNamespace(mode=Mode.DEFAULT)


def test_a_message_of_a_thousand_characters_is_taken_and_no_longer_one() -> None:
    refuse_mode(DEFAULT, CommitRequest(message="x" * 1000))
    with pytest.raises(UsageError, match="more than 1000 characters"):
        refuse_mode(DEFAULT, CommitRequest(message="x" * 1001))

"""What lies in the upper, and what of it is not saved, told by times alone."""

from types import SimpleNamespace
from typing import Any

import pytest

from ramos.save.visible import SECOND_NS, Times

NOW = 1_700_000_000 * SECOND_NS


@pytest.mark.parametrize(
    ("times", "changed_ns", "is_upper", "is_unsaved"),
    [
        (Times(), NOW, False, False),  # an image keeps whole seconds
        (Times(), NOW + 1, True, True),
        (Times(), 1, True, True),  # whatever the clock said at boot
        (Times(unsaved_ns=NOW), NOW - 1, True, False),
        (Times(unsaved_ns=NOW + 4), NOW + 4, True, True),  # as old as the moment of the save
        (Times(upper_ns=NOW), NOW - 1, False, False),  # a layer that was unpacked
        (Times(NOW, NOW + 9), NOW + 5, True, False),
    ],
)
def test_where_an_entry_lies(
    times: Times, changed_ns: int, is_upper: bool, is_unsaved: bool
) -> None:
    status: Any = SimpleNamespace(st_ctime_ns=changed_ns)
    assert (times.is_upper(status), times.is_unsaved(status)) == (is_upper, is_unsaved)

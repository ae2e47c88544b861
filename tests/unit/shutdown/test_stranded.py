"""Going down without the stick: who has the last word, and what cannot be brought back."""

from dataclasses import replace

import pytest

from ramos.booted import Boot
from ramos.errors import RamosError
from ramos.shutdown import stranded


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("ending", [False, True])
def test_who_has_the_last_word(alone: bool, gone: bool, ending: bool) -> None:
    word = stranded.has_last_word(gone=gone, alone=alone, going_down=lambda: ending)
    assert word is (alone or (gone and ending))


@pytest.mark.parametrize("luks", [False, True])
def test_a_stick_that_is_out_is_an_error_with_a_way_out(luks: bool) -> None:
    with pytest.raises(RamosError, match="pulled out") as raised:
        stranded.bring_back(replace(Boot(), luks=luks), None, lambda *_: None)
    assert "same stick" in raised.value.hint

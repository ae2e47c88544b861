"""How much a save may write: what is free, less the reserve."""

from pathlib import Path

import pytest

from ramos.config import SaveConfig
from ramos.errors import RefusedError
from ramos.layout import Places
from ramos.save import space
from ramos.sizes import MIB


@pytest.mark.parametrize(("free_mib", "room_mib"), [(1000, 936), (65, 1), (64, 0), (10, 0)])
def test_the_reserve_is_not_written_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_mib: int, room_mib: int
) -> None:
    monkeypatch.setattr(space, "read_free_bytes", lambda _: free_mib * MIB)
    places, config = Places.below(tmp_path), SaveConfig(reserve_mib=64)
    if room_mib:
        assert space.check_room(places, config) == room_mib * MIB
        return
    with pytest.raises(RefusedError, match=r"64\.0 MiB are kept in reserve.*Nothing was changed"):
        space.check_room(places, config)

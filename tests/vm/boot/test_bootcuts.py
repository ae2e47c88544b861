"""A power cut during the boot; `python -m tests.labs.bootcuts` does as many as are wanted."""

import random
from pathlib import Path

from tests.labs import bootcuts

CUTS = 1


def test_a_cut_boot_loses_nothing(image: Path, has_kvm: bool, tmp_path: Path) -> None:
    bench = bootcuts.Bench(image, tmp_path, kvm=has_kvm)
    bench.prepare()
    seed = random.randrange(100000)
    print(f"seed {seed}")
    tally = bootcuts.cut_boots(bench, CUTS, random.Random(seed))
    assert (tally.cuts, tally.logins, tally.lost) == (CUTS, CUTS, 0)

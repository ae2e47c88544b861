"""What `ramos show` and `ramos diff` print."""

import json

from ramos.layout import Places
from ramos.store.generation import Generation
from ramos.store.generations import make_tree, publish_generation
from tests.unit.cli.conftest import ramos


def test_a_generation_is_shown_as_one_object_or_in_words(places: Places) -> None:
    make_tree(places.persist)
    publish_generation(places.persist, Generation(3, 0, 1_700_000_000, "6.1", "user", "mine", ()))
    shown = json.loads(ramos(places, "show", "3", "--json").stdout)
    assert (shown["number"], shown["message"]) == (3, "mine")
    assert "message    mine" in ramos(places, "show", "3").stdout


def test_changes_are_counted_in_one_line(places: Places) -> None:
    (places.upper_dir / "etc").mkdir(parents=True)
    (places.upper_dir / "etc/mine").write_text("x" * 2048)
    done = ramos(places, "diff", "--stat")
    assert done.returncode == 0, done.stderr
    assert "2 added" in done.stdout
    assert "2.0 KiB in what is new" in done.stdout

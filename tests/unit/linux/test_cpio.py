"""Archives for the kernel: their end, which boot loaders look at."""

from ramos.linux.cpio import BLOCK_BYTES, Archive


def test_an_archive_is_whole_blocks_and_no_more() -> None:
    archive = Archive()
    archive.add_file("one", b"1", 0o644)
    data = archive.render()
    end = data.index(b"TRAILER!!!")
    assert len(data) % BLOCK_BYTES == 0
    assert len(data) - end <= BLOCK_BYTES + len("TRAILER!!!")

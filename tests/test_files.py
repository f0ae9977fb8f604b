"""Files are written whole or not at all."""

import pytest

from lib import files


def test_what_fails_in_the_middle_leaves_what_was_there(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with files.whole(path) as scratch:
        scratch.write_text("first")
    with pytest.raises(KeyboardInterrupt), files.whole(path) as scratch:
        scratch.write_text("sec")
        raise KeyboardInterrupt
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]
    with files.whole(path) as scratch:
        scratch.write_text("second")
    assert path.read_text() == "second"


def test_text_is_put_between_two_marks(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("a <start> old <end> z")
    files.put_between(path, "<start>", "<end>", " new ")
    assert path.read_text() == "a <start> new <end> z"
    for start, end in (("<none>", "<end>"), ("<start>", "<none>")):
        with pytest.raises(ValueError, match="<none>"):
            files.put_between(path, start, end, "lost")
    assert path.read_text() == "a <start> new <end> z"

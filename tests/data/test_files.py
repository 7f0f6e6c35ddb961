"""Where files are looked for, and how they are verified."""

import hashlib

import pytest

from jaxcnn import data
from jaxcnn.data import files
from jaxcnn.data.sources import SOURCES, File, Group, Source

CONTENT = b"content"
SOURCE = Source("set", "", "folder", "", (File("a", 7, hashlib.sha256(CONTENT).hexdigest()),))


def test_places_are_root_then_the_variable_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("JAXCNN_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    assert files.places(None) == [home / ".cache" / "jaxcnn"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("JAXCNN_DATA", "~/data")
    assert files.places("here") == [files.Path("here"), home / "data", tmp_path / "xdg" / "jaxcnn"]
    found = []
    for place in (tmp_path / "xdg" / "jaxcnn", home / "data", tmp_path):
        (place / "folder").mkdir(parents=True)
        assert files.located(SOURCE, tmp_path) == found  # without what is empty
        (place / "folder" / "a").write_bytes(CONTENT)
        found.insert(0, place / "folder")
        assert files.located(SOURCE, tmp_path) == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"contenx",
            r"/a: expected the digest ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73, found \w{64}$",
        ),
        (b"conten", "/a: expected 7 bytes, found 6$"),
        (None, "/a: expected a file, found nothing$"),
        ("a", "/a: expected a file, found a link to nothing$"),
    ],
)
def test_a_file_that_is_not_what_was_published(tmp_path, content, message):
    if isinstance(content, str):
        (tmp_path / "a").symlink_to(content)
    elif content is not None:
        (tmp_path / "a").write_bytes(content)
    with pytest.raises(data.DataError, match=f"^{tmp_path}{message}"):
        files.verify(SOURCE, tmp_path)


def test_a_group_is_verified_by_one_digest_of_names_and_digests(tmp_path):
    (tmp_path / "x").mkdir()
    for name in "cab":
        (tmp_path / "x" / name).write_bytes(name.encode())
    (tmp_path / "x" / "other.txt").write_text("left out")
    # printf a > x/a; printf b > x/b; printf c > x/c; sha256sum x/? | sha256sum
    digest = "9d92526f02eaf67c8112290f919e3087d8a440ee40450e895cd07e316caaae03"
    source = Source("set", "", "", "", group=Group(("x",), "x/[a-c]", 3, 3, digest))
    files.verify(source, tmp_path)
    (tmp_path / "x" / "b").write_bytes(b"B")
    with pytest.raises(
        data.DataError, match=rf"^{tmp_path} \(x\): expected files as published, with .*{digest} together"
    ):
        files.verify(source, tmp_path)
    (tmp_path / "x" / "b").unlink()
    with pytest.raises(data.DataError, match=rf"^{tmp_path} \(x\): expected 3 files, found 2$"):
        files.verify(source, tmp_path)


def test_every_published_data_set_says_what_it_is():
    for source in SOURCES:
        assert source.name in data.NAMES
        assert all([source.about, source.folder, source.licence, source.size, source.download])
        addresses = [source.archive.address] if source.archive else [file.address for file in source.files]
        assert all(address.startswith("http") for address in addresses)

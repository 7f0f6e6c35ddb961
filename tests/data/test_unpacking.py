"""Archives of data sets."""

import hashlib
import io
import os
import tarfile

import pytest

from jaxcnn import data
from jaxcnn.data import download
from jaxcnn.data.sources import Archive, File, Group, Source
from jaxcnn.data.unpacking import unpack

WAVES = {f"recordings/{n}_a_0.wav": bytes([n]) * 1000 for n in range(3)}
LINES = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(WAVES.items()))
GROUP = Group(("recordings",), r"recordings/\d_a_\d\.wav", 3, 3000, hashlib.sha256(LINES.encode()).hexdigest())


def tarred(members, mode="w:gz"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size, member.mode = len(content), 0o4777
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return file.getvalue()


TOP = {f"set-1.0/{name}": content for name, content in WAVES.items()}
OTHERS = {"set-1.0/README.md": b"x" * 500, "set-1.0/recordings/._0_a_0.wav": b"x", "set-1.0/more/0_a_0.wav": b"x"}


def source(address="", **known):
    return Source("set", "", "set", "", group=GROUP, archive=Archive("set.tar.gz", address, 200_000, **known))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_only_the_files_of_the_data_set_come_out(tmp_path, mode):
    archive, folder = tmp_path / "set.tar", tmp_path / "set"
    archive.write_bytes(tarred(OTHERS | TOP | {"set-1.0/recordings/9_a_9.wav": "/etc/passwd"}, mode))
    folder.mkdir()
    unpack(archive, source(), 200_000, folder)
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")} == WAVES
    assert os.stat(folder / "recordings" / "0_a_0.wav").st_mode & 0o7111 == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "set.tar: expected a whole tar archive, found a damaged one: "),
        (b"text" * 500, "set.tar: expected a whole tar archive, found a damaged one: "),
        (tarred(TOP)[:-30], r"set.tar: expected a whole tar archive|set.tar \(recordings\): expected 3 files, found"),
        (tarred(TOP, "w")[:1500], "set.tar: expected a whole tar archive, found a damaged one: "),
        (tarred(dict(list(TOP.items())[:2])), r"set.tar \(recordings\): expected 3 files, found 2"),
        (
            tarred(TOP | {"set-1.0/recordings/0_a_0.wav": bytes(1000) + b"x"}),
            r"set.tar \(recordings\): expected files as published",
        ),
        (tarred(TOP | {"/etc/passwd": b"x"}), "set.tar: expected names of files in one folder, found '/etc/passwd'"),
        (tarred(TOP | {"set-1.0/../x": b"x"}), "set.tar: expected names of files in one folder, found 'set-1.0/../x'"),
        (
            tarred(TOP | {"set-1.0/x": bytes(10**6)}),
            "set.tar: expected at most 200,000 bytes when unpacked, found more",
        ),
    ],
)
def test_a_damaged_archive_leaves_nothing(tmp_path, content, message):
    archive, folder = tmp_path / "set.tar", tmp_path / "set"
    archive.write_bytes(content)
    folder.mkdir()
    with pytest.raises(data.DataError, match=f"^{tmp_path}/({message})"):
        unpack(archive, source(), 200_000, folder)
    assert os.listdir(folder) == []


def fetched(tmp_path, monkeypatch, content, **known):
    """What `fetch` leaves of an archive that was downloaded."""
    monkeypatch.setattr(download, "download", lambda address, path, **options: path.write_bytes(content))
    download.fetch(source(**known), tmp_path / "set")
    return sorted(os.listdir(tmp_path / "set"))


def test_the_archive_goes_when_it_is_unpacked_and_when_it_is_not_right(tmp_path, monkeypatch):
    with pytest.raises(data.DataError, match="expected 3 files, found 0"):
        fetched(tmp_path, monkeypatch, tarred(OTHERS))
    assert os.listdir(tmp_path / "set") == []
    assert fetched(tmp_path, monkeypatch, tarred(TOP)) == ["recordings"]
    assert fetched(tmp_path, monkeypatch, b"not read: all is there") == ["recordings"]
    (tmp_path / "set" / "recordings" / "1_a_0.wav").write_bytes(b"damaged")
    assert fetched(tmp_path, monkeypatch, tarred(TOP)) == ["recordings"]


def test_a_disk_that_fails_keeps_the_archive(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    content = tarred(TOP)
    with monkeypatch.context() as patch:
        patch.setattr("jaxcnn.data.unpacking._copy", full)
        with pytest.raises(
            data.DataError, match=r"expected a place that can be written, found: No space left on device$"
        ):
            fetched(tmp_path, monkeypatch, content)
        assert os.listdir(tmp_path / "set") == ["set.tar.gz"]
    monkeypatch.setattr(download, "download", None)  # not called: the archive is there
    download.fetch(source(digest=hashlib.sha256(content).hexdigest()), tmp_path / "set")
    assert os.listdir(tmp_path / "set") == ["recordings"]


def test_files_that_have_names_of_their_own_are_unpacked_too(tmp_path):
    content = b"batch"
    file = File("test_batch.bin", 5, hashlib.sha1(content).hexdigest())
    archive = tmp_path / "set.tar"
    for other, message in (({}, "a file, found nothing"), ({"top/test_batch.bin": b"x"}, "5 bytes, found 1")):
        archive.write_bytes(tarred({"top/readme.html": b""} | other))
        with pytest.raises(data.DataError, match=rf"^{archive}\[test_batch.bin\]: expected {message}$"):
            unpack(archive, Source("set", "", "set", "", files=(file,)), 100_000, tmp_path)
    archive.write_bytes(tarred({"top/test_batch.bin": content, "top/readme.html": b""}))
    unpack(archive, Source("set", "", "set", "", files=(file,)), 100_000, tmp_path)
    assert (tmp_path / "test_batch.bin").read_bytes() == content

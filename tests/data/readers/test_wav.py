"""Audio in wav files."""

import struct
import sys
import wave

import numpy as np
import pytest

from jaxcnn import data

STEREO = np.array([[1, -2], [300, -32768], [32767, 0]], np.int16)


def riff(*chunks):
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2) for name, content in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def fmt(kind, channels, bits, rate=8000):
    return b"fmt ", struct.pack(
        "<HHIIHH", kind, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits
    )


def extensible(kind, bits, guid="000000001000800000aa00389b71"):
    name, head = fmt(0xFFFE, 1, bits)
    return name, head + struct.pack("<HHIH", 22, bits, 0, kind) + bytes.fromhex(guid)


def test_what_the_standard_library_wrote(tmp_path):
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(STEREO.tobytes())
    samples, rate = data.read_wav(path)
    np.testing.assert_array_equal(samples, STEREO)
    assert (samples.dtype, rate) == (np.int16, 8000)


@pytest.mark.parametrize(
    ("head", "content", "expected"),
    [
        (fmt(1, 1, 8), bytes([0, 128, 255]), np.array([0, 128, 255], np.uint8)),
        (fmt(1, 1, 24), bytes([1, 0, 0, 255, 255, 255]), np.array([256, -256], np.int32)),
        (fmt(1, 1, 32), struct.pack("<2i", -5, 6), np.array([-5, 6], np.int32)),
        (fmt(3, 1, 32), struct.pack("<2f", 0.5, -1), np.array([0.5, -1], np.float32)),
        (fmt(3, 1, 64), struct.pack("<2d", 0.1, -1), np.array([0.1, -1])),
        (extensible(1, 16), struct.pack("<2h", 7, -8), np.array([7, -8], np.int16)),
    ],
)
def test_every_kind_with_chunks_around_it(tmp_path, head, content, expected):
    path = tmp_path / "sound.wav"
    path.write_bytes(riff((b"LIST", b"odd"), head, (b"data", content), (b"more", b"")))
    samples, _ = data.read_wav(path)
    np.testing.assert_array_equal(samples, expected[:, None])
    assert samples.dtype == expected.dtype


PCM, SOUND = fmt(1, 2, 16), (b"data", STEREO.tobytes())
GOOD = riff(PCM, SOUND)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected 12 bytes of the header, found 0"),
        (b"RIFX" + GOOD[4:], "expected a wav file, which begins with RIFF, a size and WAVE, found b'RIFX"),
        (GOOD[:-1], "expected 44 bytes of chunks, found 43"),
        (GOOD + b"\0", "expected the end of the file behind what its header announces, found more bytes"),
        (GOOD[:4] + b"\xfe" * 4 + GOOD[8:], r"expected at most 1,073,741,824 bytes .* found 4,278,124,282"),
        (
            GOOD[:4] + b"\xff" * 4 + GOOD[8:],
            "expected the file's size in the header, found 4,294,967,295, which a program",
        ),
        (GOOD[:4] + bytes(4) + GOOD[8:], "expected a size of at least 4 in the header, found 0"),
        (GOOD[:40] + b"\xff" * 4 + GOOD[44:], "expected 4,294,967,295 bytes in the chunk b'data', found 12"),
        (riff(PCM), "expected one chunk 'fmt ' and behind it one chunk 'data', found "),
        (riff(SOUND, PCM), "expected one chunk 'fmt ' and behind it one chunk 'data', found "),
        (riff(PCM, SOUND, SOUND), "expected one chunk 'fmt ' and behind it one chunk 'data', found "),
        (riff(PCM, (b"data", b"")), "expected frames of 4 bytes in the chunk 'data', found 0 bytes"),
        (riff(PCM, (b"data", b"abc")), "expected frames of 4 bytes in the chunk 'data', found 3 bytes"),
        (riff((b"fmt ", b"short"), SOUND), "expected at least 16 bytes in the chunk 'fmt ', found 5"),
        (riff(fmt(1, 0, 16), SOUND), "expected a format that agrees with itself, found 0 channels of 16 bits"),
        (riff(fmt(1, 2, 12), SOUND), "expected 8, 16, 24 or 32-bit integers .* found format 1 of 12 bits"),
        (riff(fmt(17, 1, 4), SOUND), "expected 8, 16, 24 or 32-bit integers .* found format 17 of 4 bits"),
        (riff(extensible(1, 16, "00" * 14), SOUND), "expected a known sub-format, found 00"),
        (GOOD[:28] + bytes(4) + GOOD[32:], "expected a format that agrees with itself, found 2 channels of 16 bits"),
        (riff(PCM, SOUND)[:-8] + b"abcd", "expected 44 bytes of chunks, found 40"),
    ],
)
def test_damaged_sound(tmp_path, content, message):
    path = tmp_path / "sound.wav"
    path.write_bytes(content)
    with pytest.raises(data.DataError, match=f"^{path}: {message}"):
        data.read_wav(path)


@pytest.mark.parametrize(
    ("module", "read", "package"),
    [
        ("scipy.io", data.read_wav, "scipy"),
        ("nibabel", data.read_nifti, "nibabel"),
        ("PIL", data.read_image, "pillow"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, module, read, package):
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 400)
    with pytest.raises(ImportError, match=rf'{package}: pip install "jaxcnn\[train\]"$'):
        read(path)

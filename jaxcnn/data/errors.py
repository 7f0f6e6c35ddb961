"""What is said of a file, a folder or a download that is not what it should be."""

import os
from os import PathLike


class DataError(ValueError):
    """A file, folder or download is not what it should be.

    The message is one sentence: which file, what was expected there and what was found.
    """


def expect(ok: bool, path: str | PathLike[str], expected: str, found: object) -> None:
    """Raises the one sentence that a bad file gets; does nothing where `ok` is true."""
    if not ok:
        raise DataError(f"{path}: expected {expected}, found {' '.join(str(found).split())}")


def kind_of(path: str | PathLike[str]) -> str:
    """What is at a path, in words. Unlike pathlib, it has an answer also where the system has none."""
    if os.path.isfile(path):
        return "a file"
    if os.path.isdir(path):
        return "a folder"
    if os.path.exists(path):
        return "something else"
    return "a link to nothing" if os.path.islink(path) else "nothing"


def reason(error: BaseException) -> str:
    """Why a call failed, in one line: what the system says of a file, or what a library says."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = " ".join(str(text).split())
    return text if len(text) <= 200 else text[:197] + "..."

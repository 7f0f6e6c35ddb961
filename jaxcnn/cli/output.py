"""What commands print on stdout."""

import os
import sys


def say(line: str) -> None:
    """Prints a line. What stdout cannot encode, as a folder's name that is no Unicode, is escaped; nobody may read it,
    as behind `| head`."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

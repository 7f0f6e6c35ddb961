"""Annotations of GitHub: lines that put what is wrong beside the lines of a pull request.

Source: GitHub, "Workflow commands for GitHub Actions", section "Setting an error message".
"""

import os
from pathlib import Path


def annotation(message: str, title: str, file: str = "", line: int = 0) -> str:
    """An error at a line of a file, for GitHub. Code from a prompt has a file such as <stdin>, which is none."""
    places = {"file": _in_repository(file), "line": str(line)} if file and not file.startswith("<") else {}
    properties = ",".join(f"{name}={_of_property(value)}" for name, value in {**places, "title": title}.items())
    return f"::error {properties}::{_of_message(message)}"


def on_github() -> bool:
    """Whether this runs in a workflow of GitHub."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def _in_repository(file: str) -> str:
    """The path from the folder of the checkout, which is the working one where no workflow runs."""
    folder, path = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()), Path(file).absolute()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _of_message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _of_property(text: str) -> str:
    return _of_message(text).replace(":", "%3A").replace(",", "%2C")

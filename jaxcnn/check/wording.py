"""How the checker words what it found."""


def one_line(error: BaseException) -> str:
    """The kind of an error and the beginning of what it says; of a traceback in it, as of a callback, the last line."""
    _, _, traceback = str(error).strip().partition("Traceback (most recent call last):")
    words = " ".join((traceback.splitlines()[-1] if "\n" in traceback else str(error)).split())
    if not words:
        return f"{type(error).__name__} without a message"
    return f"{type(error).__name__}: {words[:200]}{'...' if len(words) > 200 else ''}"


def count(number: float) -> str:
    return f"{number:.0f}" if number < 1e4 else f"{number:.0e}"


def share(number: float) -> str:
    """A share of an entry: 0.1 %, 4e-10."""
    return f"{100 * number:.2g} %" if 1e-3 <= number < 10 else f"{number:.0e}"

"""The command line within the process of a test."""

from jaxcnn import cli


def run(*arguments):
    """The exit code of the command."""
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        return stop.code

"""Exceptions whose message is for the person at the command line."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: an argument or a file. The message is one line that names the input, says what was expected and what
    came.

    The command line prints the message without a traceback and exits with status 2. This is not a ValueError, because
    parsers (tyro's, numpy's) catch each ValueError of the code that they call, and put words of their own around it.
    """


class Diverged(RuntimeError):
    """Training failed: a loss or a weight is no longer finite. The message names the step and what may help."""


def require(condition: bool, message: str) -> None:
    """Raise `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)

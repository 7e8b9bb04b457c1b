"""Exceptions whose message is for the person at the command line."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: an argument or a file. The message is one line that names it, says what was expected and what came.

    The command line prints the message without a traceback and exits with status 2. No ValueError, because parsers
    (tyro's, numpy's) catch those of the code they call and put words of their own around them.
    """


class Diverged(RuntimeError):
    """Training failed: a loss or a weight is no longer finite. The message names the step and what may help."""


def require(condition: bool, message: str) -> None:
    """Raise `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)

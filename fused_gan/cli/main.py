"""The command `fused-gan`. Its options and help come from dataclasses."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Sequence

from fused_gan.base.endings import in_words
from fused_gan.base.errors import UserError
from fused_gan.base.files import FULL, NotWritten, cannot_write_output, discard, open_missing_streams
from fused_gan.cli.extras import TRAIN
from fused_gan.cli.signals import Ended, ended_by_signals

BAD_INPUT, FAILED = 2, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0 means done, and 1 that the command could not be finished (diverged, collapsed, disk full …). 2 means bad input,
    and 128 + n that signal n stopped the command (130 for Ctrl-C).

    Args:
        arguments: the words after `fused-gan`; by default those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    open_missing_streams()
    try:
        with ended_by_signals():
            return _run(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in TRAIN.values():
            raise
        return _fail(f"the package {package} is missing; get it with: pip install 'fused_gan[train]'", BAD_INPUT)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Ended as end:
        return _fail(f"ended by {end.by.name}", 128 + end.by)
    except Exception as error:
        lost = _output_error(error)
        if lost is not None:
            words = cannot_write_output(lost)
            # A reader that has gone, as of `| head`, wants no word.
            return _fail(words, FAILED) if words else 128 + signal.SIGPIPE
        said = in_words(error, shlex.join(["fused-gan", *arguments]))
        if said is None:
            raise
        return _fail(said, BAD_INPUT if isinstance(error, UserError) else FAILED)


def _run(arguments: list[str]) -> int:
    try:
        if arguments == ["doctor"]:
            # Outside the parser, because doctor must also run where the parser's package is missing.
            from fused_gan.cli.doctor import report

            status = report()
        else:
            from fused_gan.cli.parse import parse

            status = parse(arguments).run()
    except SystemExit:  # after --help
        sys.stdout.flush()
        raise
    sys.stdout.flush()  # here, where an error of it is still ours to tell
    return status


def _output_error(error: Exception) -> OSError | None:
    """Return the error of standard output, if that is what ended the command. The rest of the output goes nowhere.

    What could not be written is still there to be written, unless it was long. An error of a file names the file.
    """
    lost = None
    try:
        sys.stdout.flush()
    except OSError as again:
        discard(sys.stdout)
        lost = again
    if not isinstance(error, OSError) or isinstance(error, NotWritten) or error.filename is not None:
        return None
    if lost is None and (isinstance(error, BrokenPipeError) or error.errno in FULL):
        discard(sys.stdout)
        lost = error
    return lost


def _fail(message: str, status: int) -> int:
    print("fused-gan: error:", message.replace("\n", " "), file=sys.stderr)
    return status

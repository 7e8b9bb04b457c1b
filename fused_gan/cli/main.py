"""The command `fused-gan`. Its options and help come from dataclasses."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from fused_gan.base.errors import Diverged, UserError
from fused_gan.base.files import discard, open_missing_streams
from fused_gan.cli.extras import TRAIN

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
        if arguments == ["doctor"]:
            # Outside the parser, because doctor must also run where the parser's package is missing.
            from fused_gan.cli.doctor import report

            return report()
        from fused_gan.cli.parse import parse

        status = parse(arguments).run()
        sys.stdout.flush()  # here, where an error of it is still ours to tell
        return status
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in TRAIN.values():
            raise
        return _fail(f"the package {package} is missing; get it with: pip install 'fused_gan[train]'", BAD_INPUT)
    except UserError as error:
        return _fail(str(error), BAD_INPUT)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Diverged as error:
        return _fail(str(error), FAILED)
    except BrokenPipeError:  # the reader has gone, as of `| head`, and wants no word
        discard(sys.stdout)
        return 128 + signal.SIGPIPE
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        return _fail(f"out of memory: {error}; {_LESS_MEMORY}", FAILED)
    except OSError as error:
        return _fail(str(error), FAILED)


_LESS_MEMORY = "a smaller --batch-size, --image-size or --count, or --data-place host, takes less"


def _lacks_memory(error: Exception) -> bool:
    """Whether an error says that memory could not be had: of Python, NumPy, a GPU, or torch's allocator for the CPU."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(error)


def _fail(message: str, status: int) -> int:
    print("fused-gan: error:", message.replace("\n", " "), file=sys.stderr)
    return status

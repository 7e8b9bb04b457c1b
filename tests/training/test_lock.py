"""One process at a time, and none that was killed holds up the next."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fused_gan.base.errors import UserError
from fused_gan.base.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from fused_gan.base.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_another_process_is_refused_until_the_first_is_gone_however_that_ended(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(file)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert int(file.read_text()) == holder.pid
        with pytest.raises(UserError, match="wait for it"), locked(file, "wait for it"):
            pass
        holder.kill()
    with locked(file, "a killed process holds up nobody"), pytest.raises(UserError, match="busy"), locked(file, "busy"):
        pass
    with locked(file, "who left holds up nobody"):
        pass


def test_a_system_without_such_locks_says_so_when_one_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    wanted = r"\.lock: it cannot be locked, as this system has no POSIX file locks"
    with pytest.raises(UserError, match=wanted), locked(tmp_path / ".lock"):
        pass


def test_commands_are_imported_without_such_locks() -> None:
    program = "import fused_gan, sys, accelerate, torch; sys.modules['fcntl'] = None; import fused_gan.cli.parse"
    subprocess.run([sys.executable, "-c", program], check=True)

"""The lock that keeps a host to one agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heddle.agent.daemon import pid_file_held, stop_running
from heddle.errors import AgentError

HOLD = """
import sys
from pathlib import Path
from heddle.agent.daemon import pid_file_held
with pid_file_held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "run/agent.pid"
    with pid_file_held(path):
        assert path.read_text() == f"{os.getpid()}\n"
        message = f"an agent of this host runs already: pid {os.getpid()}"
        with pytest.raises(AgentError, match=message), pid_file_held(path):
            pass
    assert not path.exists()
    with pid_file_held(path):
        pass


def test_the_lock_of_a_killed_agent_is_free(tmp_path: Path) -> None:
    path = tmp_path / "agent.pid"
    argv = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AgentError, match=f"pid {holder.pid}"), pid_file_held(path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert path.exists()
    with pid_file_held(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_stopping_what_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEDDLE_ROOT", str(tmp_path))
    assert stop_running() is False

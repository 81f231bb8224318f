"""scripts/demo does what it says, proves it, and leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from private_machine import private_machine


def test_demo_shows_that_the_guests_talk(tiny_folder: Path) -> None:
    with private_machine("scripts/demo", images=tiny_folder.parent) as demo:
        exit_code, output = demo.finish()
    assert exit_code == 0, output
    assert "5 packets transmitted, 5 packets received, 0% packet loss" in output, output
    assert re.search(r" [1-9][0-9.]* [KMG]bits/sec +receiver", output), output
    guests_sent = re.search(r"The guests sent (\d+) frames", output)
    assert guests_sent, output
    assert int(guests_sent[1]) > 1000, output
    assert re.search(r"^frames sent +\d+ +\d+ +0$", output, re.MULTILINE), output


# The agent, as it starts; a guest, as it boots.
@pytest.mark.parametrize("moment", ["on-demand", "qemu-system"])
def test_ctrl_c_leaves_nothing(tiny_folder: Path, moment: str) -> None:
    with private_machine("scripts/demo", images=tiny_folder.parent) as demo:
        demo.wait_for_program(moment)
        demo.interrupt()
        exit_code, output = demo.finish()
    assert exit_code == 130, output

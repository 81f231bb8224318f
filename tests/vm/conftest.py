"""Fixtures of the tests with real virtual machines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_host import PrivateHost

from heddle import paths
from heddle.hypervisor.tiny import ensure_tiny_image


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny guest, built by the machine that can reach the package mirror, once for
    all lanes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEDDLE_ROOT", str(tmp_path_factory.getbasetemp() / "tiny"))
        yield ensure_tiny_image().kernel.parent


@pytest.fixture(scope="module")
def vm_host(tiny_folder: Path) -> Iterator[PrivateHost]:
    """A host without machines, which has the tiny guest, and DHCP on its bridge."""
    host = PrivateHost()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEDDLE_ROOT", str(host.root))
        try:
            shutil.copytree(
                tiny_folder, paths.images_dir() / tiny_folder.name, copy_function=os.link
            )
            host.enter()
            yield host
        finally:
            host.leave()

"""Certificates and users for an etcd of the tests."""

from __future__ import annotations

import subprocess
from contextlib import closing
from pathlib import Path

from heddle.settings import EtcdSettings
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.layout import ROOT
from heddle.store.etcd.messages import authenticate, end_of
from heddle.store.etcd.wire import data, message, number

_READ_WRITE = 2


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


class Certificates:
    """A CA, and what it signed for a server on loopback and for a client."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.ca = folder / "ca.crt"
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=heddle test CA"),
            *("-keyout", folder / "ca.key", "-out", self.ca),
        )
        self.server = self._sign("server", "subjectAltName=IP:127.0.0.1")
        self.client = self._sign("client", "extendedKeyUsage=clientAuth")

    def _sign(self, name: str, extension: str) -> tuple[Path, Path]:
        """Certificate and key."""
        folder = self._folder
        cert, key, request = (folder / f"{name}.{end}" for end in ("crt", "key", "csr"))
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", key, "-out", request),
        )
        extensions = folder / f"{name}.ext"
        extensions.write_text(extension + "\n")
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", folder / "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", cert),
        )
        return cert, key


def enable_users(settings: EtcdSettings, user: str, password: str) -> None:
    """From now on etcd takes only ``root`` and this user, who may touch what is
    heddle's."""
    with closing(EtcdClient(settings)) as client:

        def call(method: str, request: bytes = b"") -> None:
            client.write(f"/etcdserverpb.Auth/{method}", request)

        call("UserAdd", authenticate("root", "secret-of-root"))
        call("RoleAdd", data(1, b"root"))
        call("UserGrantRole", data(1, b"root") + data(2, b"root"))
        call("RoleAdd", data(1, b"heddle"))
        root = ROOT.encode()
        permission = number(1, _READ_WRITE) + data(2, root) + data(3, end_of(root))
        call("RoleGrantPermission", data(1, b"heddle") + message(2, permission))
        call("UserAdd", authenticate(user, password))
        call("UserGrantRole", data(1, user.encode()) + data(2, b"heddle"))
        call("AuthEnable")

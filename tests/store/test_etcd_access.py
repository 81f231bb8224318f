"""etcd with TLS, client certificates, users and passwords."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from etcd_access import Certificates, enable_users
from etcd_server import EtcdCluster
from store_places import network, take

from heddle.errors import StoreError
from heddle.intent.model import Kind
from heddle.settings import EtcdSettings
from heddle.store.etcd.client import EtcdClient
from heddle.store.etcd.store import EtcdStore
from heddle.store.interface import Transaction

PASSWORD = "correct horse"  # noqa: S105 (of a server of this test)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "files")


@pytest.fixture
def guarded(tmp_path: Path, certificates: Certificates) -> Iterator[EtcdCluster]:
    """etcd that wants to see a client certificate."""
    cert, key = certificates.server
    cluster = EtcdCluster(tmp_path / "etcd" / "data")
    (member,) = cluster.members
    member.scheme = "https"
    member.options = [
        f"--cert-file={cert}",
        f"--key-file={key}",
        f"--trusted-ca-file={certificates.ca}",
        "--client-cert-auth",
    ]
    try:
        member.start()
        cluster.wait(with_certificate(cluster, certificates))
        yield cluster
    finally:
        cluster.stop()


def with_certificate(cluster: EtcdCluster, certificates: Certificates) -> EtcdSettings:
    cert, key = certificates.client
    return cluster.settings._replace(ca=certificates.ca, cert=cert, key=key)


def use(settings: EtcdSettings) -> None:
    with closing(EtcdStore(settings, "h1")) as store:
        revision = store.commit(Transaction(put=[network("web", 1)]))
        assert store.snapshot().revision == revision
        store.put_status({("port", "p"): {"state": "active"}})
        assert [batch[0].id for batch in take(store, 1, after=0)] == ["id-web"]


def test_tls_with_a_client_certificate(guarded: EtcdCluster, certificates: Certificates) -> None:
    use(with_certificate(guarded, certificates))


def test_without_a_certificate_nobody_gets_in(
    guarded: EtcdCluster, certificates: Certificates
) -> None:
    settings = guarded.settings._replace(ca=certificates.ca)
    with closing(EtcdStore(settings, "h1")) as store, pytest.raises(StoreError, match="https://"):
        store.snapshot()


def test_a_server_that_another_ca_has_signed_is_not_trusted(
    guarded: EtcdCluster, certificates: Certificates, tmp_path: Path
) -> None:
    other = Certificates(tmp_path / "other")
    settings = with_certificate(guarded, certificates)._replace(ca=other.ca)
    with (
        closing(EtcdStore(settings, "h1")) as store,
        pytest.raises(StoreError, match="certificate"),
    ):
        store.snapshot()


def test_a_certificate_that_another_ca_has_signed_is_not_taken(
    guarded: EtcdCluster, certificates: Certificates, tmp_path: Path
) -> None:
    cert, key = Certificates(tmp_path / "other").client
    settings = with_certificate(guarded, certificates)._replace(cert=cert, key=key)
    with (
        closing(EtcdClient(settings, patience=3)) as client,
        pytest.raises(StoreError, match=r"does not take the certificate of store\.cert"),
    ):
        client.range(b"/")


def test_a_missing_certificate_is_named(guarded: EtcdCluster, tmp_path: Path) -> None:
    settings = guarded.settings._replace(ca=tmp_path / "gone.crt")
    with (
        closing(EtcdStore(settings, "h1")) as store,
        pytest.raises(StoreError, match=r"gone\.crt: No such file"),
    ):
        store.snapshot()


def test_ipv6(tmp_path: Path) -> None:
    cluster = EtcdCluster(tmp_path / "etcd" / "data")
    cluster.members[0].address = "::1"
    try:
        cluster.start()
        use(cluster.settings)
    finally:
        cluster.stop()


@pytest.fixture
def with_users(tmp_path: Path) -> Iterator[EtcdCluster]:
    cluster = EtcdCluster(tmp_path / "etcd" / "data")
    try:
        cluster.start()
        enable_users(cluster.settings, "heddle", PASSWORD)
        yield cluster
    finally:
        cluster.stop()


def as_user(cluster: EtcdCluster, folder: Path, password: str = PASSWORD) -> EtcdSettings:
    file = folder / "password"
    file.write_text(password + "\n")
    return cluster.settings._replace(user="heddle", password_file=file)


def test_a_user_with_a_password(with_users: EtcdCluster, tmp_path: Path) -> None:
    use(as_user(with_users, tmp_path))


def test_a_wrong_password_is_told_and_not_logged(
    with_users: EtcdCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = as_user(with_users, tmp_path, "wrong battery")
    with (
        closing(EtcdStore(settings, "h1")) as store,
        pytest.raises(StoreError, match="does not accept the user and password") as raised,
    ):
        store.snapshot()
    assert "battery" not in str(raised.value) + caplog.text


def test_no_user_where_one_is_wanted_is_told(with_users: EtcdCluster) -> None:
    with (
        closing(EtcdStore(with_users.settings, "h1")) as store,
        pytest.raises(StoreError, match="give user and password_file"),
    ):
        store.snapshot()


def test_a_missing_password_file_is_named(with_users: EtcdCluster, tmp_path: Path) -> None:
    settings = as_user(with_users, tmp_path)._replace(password_file=tmp_path / "gone")
    with (
        closing(EtcdStore(settings, "h1")) as store,
        pytest.raises(StoreError, match="gone: No such file"),
    ):
        store.snapshot()


def test_a_token_that_etcd_has_forgotten_is_renewed(
    with_users: EtcdCluster, tmp_path: Path
) -> None:
    settings = as_user(with_users, tmp_path)
    (member,) = with_users.members
    with closing(EtcdStore(settings, "h1")) as store, closing(EtcdStore(settings, "h2")) as other:
        first = store.commit(Transaction(put=[network("web", 1)]))

        def restart_and_write(seen: int) -> None:
            if seen == 1:
                member.kill()
                member.start()  # tokens live in its memory
                with_users.wait(settings)
                other.commit(Transaction(put=[network("db", 2)]))

        batches = take(store, 2, after=0, then=restart_and_write)
        assert [batch[0].id for batch in batches] == ["id-web", "id-db"]
        assert store.snapshot().revision > first
        assert set(store.snapshot().objects[Kind.NETWORK]) == {"id-web", "id-db"}

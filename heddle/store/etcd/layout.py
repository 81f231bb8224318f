"""The keys that heddle has in etcd, all below ``/heddle/``.

=======================================  =========================================
``intent/SCOPE/ID/KIND/ID``              an object, as JSON, in each of its homes
``intent/SCOPE/ID/see/NAME``             a signpost: the scope where to look
``intent/~pending``                      a large commit that is being carried out
``progress``                             the number of its next step
``index/KIND/ID``                        the first home of an object
``claims/WHAT/...``                      who has what only one object can have
``head``                                 the last commit; its revision is intent's
``journal/COMMIT/N``                     the steps of a large commit
``status/HOST/KIND/ID``                  facts, as JSON
``alive/HOST``                           there as long as the agent of a host lives
``seen/HOST``                            left by it, so that it is known since when it does not
``wake/HOST``                            written to learn that a host's agent is up to date
=======================================  =================================="""

from __future__ import annotations

from typing import NamedTuple

from heddle.store.scope import Scope

ROOT = "/heddle/"
INTENT = b"/heddle/intent/"
PENDING = b"/heddle/intent/~pending"
PROGRESS = b"/heddle/progress"
HEAD = b"/heddle/head"
JOURNALS = b"/heddle/journal/"
STATUS = b"/heddle/status/"
ALIVE = b"/heddle/alive/"
SEEN = b"/heddle/seen/"
MAIL = b"/heddle/mail/"
SEE = "see"

# Which scope has the objects of a kind, for who reads one kind alone.
SCOPE_OF_KIND = {
    "network": "network",
    "subnet": "network",
    "port": "network",
    "router": "router",
    "security_group": "group",
    "security_group_rule": "rules",
    "address_group": "address_group",
    "address_group_entry": "entries",
    "qos_policy": "qos",
    "machine": "host",
    "host": "hosts",
    "detour": "hosts",
}


class Place(NamedTuple):
    """What a key below ``intent/`` is about: an object of a kind, or a signpost
    (kind ``see``)."""

    scope: Scope
    kind: str
    id: str


def scope_prefix(scope: Scope) -> bytes:
    return f"{ROOT}intent/{scope.kind}/{_quoted(scope.id)}/".encode()


def kind_prefix(scope_kind: str) -> bytes:
    """What all scopes of a kind begin with."""
    return f"{ROOT}intent/{scope_kind}/".encode()


def object_key(scope: Scope, kind: str, object_id: str) -> bytes:
    return scope_prefix(scope) + f"{kind}/{_quoted(object_id)}".encode()


def signpost_key(scope: Scope, kind: str, object_id: str) -> bytes:
    """Its value is ``scope_name`` of where the object is."""
    return scope_prefix(scope) + f"{SEE}/{_quoted(f'{kind}.{object_id}')}".encode()


def index_key(kind: str, object_id: str) -> bytes:
    return f"{ROOT}index/{kind}/{_quoted(object_id)}".encode()


def claim_key(claim: tuple[str, ...]) -> bytes:
    return f"{ROOT}claims/{'/'.join(map(_quoted, claim))}".encode()


def status_prefix(host: str) -> bytes:
    return STATUS + f"{_quoted(host)}/".encode()


def status_key(host: str, kind: str, object_id: str) -> bytes:
    return status_prefix(host) + f"{kind}/{_quoted(object_id)}".encode()


def status_of(key: bytes) -> tuple[str, str, str]:
    """Host, kind and id of a status key."""
    host, kind, object_id = key[len(STATUS) :].decode().split("/")
    return _unquoted(host), kind, _unquoted(object_id)


def alive_key(host: str) -> bytes:
    return ALIVE + _quoted(host).encode()


def seen_key(host: str) -> bytes:
    return SEEN + _quoted(host).encode()


def host_of(key: bytes) -> str:
    """Whose ``alive`` or ``seen`` key it is."""
    return _unquoted(key.decode().rpartition("/")[2])


def wake_key(host: str) -> bytes:
    return f"{ROOT}wake/{_quoted(host)}".encode()


def mail_prefix(host: str) -> bytes:
    return MAIL + f"{_quoted(host)}/".encode()


def journal_prefix(commit: str) -> bytes:
    return JOURNALS + f"{commit}/".encode()


def journal_key(commit: str, step: int) -> bytes:
    return journal_prefix(commit) + f"{step:08}".encode()


def place_of(key: bytes) -> Place | None:
    """None for what is below ``intent/`` but no object or signpost."""
    words = key[len(INTENT) :].decode().split("/")
    if len(words) != 4:
        return None
    return Place(Scope(words[0], _unquoted(words[1])), words[2], _unquoted(words[3]))


def scope_name(scope: Scope) -> bytes:
    """A scope as the value of a signpost."""
    return f"{scope.kind}/{_quoted(scope.id)}".encode()


def scope_named(name: bytes) -> Scope:
    kind, _, scope_id = name.decode().partition("/")
    return Scope(kind, _unquoted(scope_id))


def _quoted(text: str) -> str:
    return text.replace("%", "%25").replace("/", "%2F")


def _unquoted(text: str) -> str:
    return text.replace("%2F", "/").replace("%25", "%")

"""The pure difference between wanted and actual."""

from __future__ import annotations

import pytest
from applier_states import Plug
from hypothesis import given
from hypothesis import strategies as st

from heddle.applier.diff import by_wanted_name, diff_links, diff_table, is_right, presumed
from heddle.applier.kernel import Aspect, LinkFact, Peer

TAP, BOX = Plug(1).link, Plug(2, container=True).link
TAP_FACT, BOX_FACT = presumed(TAP, 10), presumed(BOX, 11)

ROWS = st.dictionaries(st.binary(min_size=1, max_size=1), st.binary(max_size=1))


@given(ROWS, ROWS)
def test_a_table_with_its_difference_carried_out_is_as_wanted(
    wanted: dict[bytes, bytes], actual: dict[bytes, bytes]
) -> None:
    plan = diff_table(wanted, actual)
    assert not plan.new.keys() & actual.keys()
    assert plan.changed.keys() <= actual.keys()
    done = {**actual, **plan.new, **plan.changed}
    for key in plan.removed:
        del done[key]
    assert done == wanted
    assert bool(plan) == (wanted != actual)


def test_what_is_right_is_left_alone() -> None:
    plan = diff_links({TAP.name: TAP, BOX.name: BOX}, {TAP.name: TAP_FACT, BOX.name: BOX_FACT})
    assert (plan.made, plan.replaced, plan.fixed, plan.raised, plan.removed) == ([], {}, [], [], {})
    assert is_right(TAP, TAP_FACT)


def test_a_missing_link_is_made_and_a_leftover_removed() -> None:
    plan = diff_links({TAP.name: TAP}, {TAP.name: None, "old": TAP_FACT._replace(name="old")})
    assert (plan.made, plan.removed) == ([TAP], {"old": 10})


@pytest.mark.parametrize(
    ("wanted", "fact"),
    [
        (TAP, TAP_FACT._replace(multiqueue=True)),
        (TAP, TAP_FACT._replace(is_veth=True)),
        (BOX, BOX_FACT._replace(is_veth=False)),
        (BOX, BOX_FACT._replace(peer=Peer("other", "eth0", "fa:16:3e:00:00:02"))),
        (BOX, BOX_FACT._replace(peer=Peer("heddle-c2", "eth1", "fa:16:3e:00:00:02"))),
        (BOX, BOX_FACT._replace(peer=Peer("heddle-c2", "eth0", "fa:16:3e:00:00:03"))),
    ],
)
def test_what_cannot_be_changed_is_replaced(wanted: object, fact: LinkFact) -> None:
    link = TAP if wanted is TAP else BOX
    plan = diff_links({link.name: link}, {link.name: fact})
    assert (plan.made, plan.replaced, plan.fixed) == ([link], {link.name: fact.ifindex}, [])
    assert not is_right(link, fact)


def test_a_veth_is_not_replaced_for_a_peer_that_nobody_looked_at() -> None:
    assert is_right(BOX, BOX_FACT._replace(peer=None))


@pytest.mark.parametrize(
    ("fact", "aspect"),
    [
        (TAP_FACT._replace(name="x"), Aspect.NAME),
        (TAP_FACT._replace(alias="x"), Aspect.ALIAS),
        (TAP_FACT._replace(mtu=1), Aspect.MTU),
        (TAP_FACT._replace(queue=1), Aspect.QUEUE),
        (TAP_FACT._replace(filtered=False), Aspect.FILTER),
        (TAP_FACT._replace(silent=False), Aspect.SILENCE),
        (TAP_FACT._replace(free=False), Aspect.FREEDOM),
    ],
)
def test_each_wrong_aspect_is_fixed_alone(fact: LinkFact, aspect: Aspect) -> None:
    plan = diff_links({TAP.name: TAP}, {TAP.name: fact})
    assert [(fix.ifindex, fix.aspects) for fix in plan.fixed] == [(10, {aspect})]
    assert plan.raised == []


def test_a_link_that_is_down_is_raised_after_the_rest() -> None:
    plan = diff_links({TAP.name: TAP}, {TAP.name: TAP_FACT._replace(up=False)})
    assert plan.fixed == []
    assert [fix.aspects for fix in plan.raised] == [{Aspect.UP}]


def test_a_renamed_link_is_known_by_its_alias() -> None:
    renamed = TAP_FACT._replace(name="x")
    assert by_wanted_name([TAP], [renamed]) == ({TAP.name: renamed}, [])


def test_of_two_links_with_one_alias_the_one_with_the_name_counts() -> None:
    double = TAP_FACT._replace(name="x", ifindex=12)
    assert by_wanted_name([TAP], [double, TAP_FACT]) == ({TAP.name: TAP_FACT}, [double])

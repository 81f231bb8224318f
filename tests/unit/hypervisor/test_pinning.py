"""Which CPUs the threads of a VM get."""

from __future__ import annotations

from heddle.hypervisor.pinning import Core, Pinning, choose, read_cores

FOUR = [Core(0, (n,)) for n in range(4)]
HYPERTHREADED = [Core(0, (n, n + 4)) for n in range(4)]
TWO_NODES = [Core(0, (0,)), Core(0, (1,)), Core(1, (2,)), Core(1, (3,)), Core(1, (4,))]


def test_a_vcpu_has_a_core_and_the_emulator_the_others() -> None:
    assert choose(FOUR, {}, 1) == Pinning((1,), frozenset({0, 2, 3}))


def test_cores_with_a_pinned_vcpu_are_left_alone() -> None:
    assert choose(FOUR, {1: 1}, 2) == Pinning((2, 3), frozenset({0, 1}))


def test_vcpus_share_no_core() -> None:
    """The second thread of a vCPU's core stays idle for it."""
    pinning = choose(HYPERTHREADED, {}, 2)
    assert pinning == Pinning((1, 2), frozenset({0, 4, 3, 7}))
    assert choose(HYPERTHREADED, {5: 1}, 3) is None


def test_with_too_few_cores_nothing_is_pinned() -> None:
    assert choose(FOUR[:3], {}, 1) is None
    assert choose(FOUR, {1: 1, 2: 1}, 2) is None
    assert choose(FOUR, {}, 4) is None


def test_all_vcpus_are_near_one_memory() -> None:
    assert choose(TWO_NODES, {}, 2) == Pinning((2, 3), frozenset({4}))
    assert choose(TWO_NODES, {2: 1, 3: 1}, 1) == Pinning((1,), frozenset({0}))
    assert choose(TWO_NODES, {}, 3) is None  # nothing near would be left for the emulator


def test_cores_are_read_from_libvirts_capabilities() -> None:
    text = """
    <capabilities><host><topology><cells num='2'>
      <cell id='0'><cpus num='4'>
        <cpu id='0' socket_id='0' core_id='0' siblings='0,2'/>
        <cpu id='1' socket_id='0' core_id='1' siblings='1,3'/>
        <cpu id='2' socket_id='0' core_id='0' siblings='0,2'/>
        <cpu id='3' socket_id='0' core_id='1' siblings='1,3'/>
      </cpus></cell>
      <cell id='1'><cpus num='2'>
        <cpu id='4' socket_id='1' core_id='0' siblings='4-5'/>
        <cpu id='5' socket_id='1' core_id='0' siblings='4-5'/>
      </cpus></cell>
    </cells></topology></host></capabilities>"""
    assert list(read_cores(text)) == [Core(0, (0, 2)), Core(0, (1, 3)), Core(1, (4, 5))]

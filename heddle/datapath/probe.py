"""Asks the kernel, as root, for single features of BPF."""

from __future__ import annotations

from heddle.datapath.libbpf import captured_log, ffi, lib

# Numbers of include/uapi/linux/bpf.h, which never change.
_PROGRAM_TYPE_SCHED_CLS = 3
_MAP_TYPE_RING_BUFFER = 27
_HELPER_REDIRECT_PEER = 155

ffi.cdef(
    """
    int libbpf_probe_bpf_map_type(int map_type, const void *opts);
    int libbpf_probe_bpf_helper(int program_type, int helper, const void *opts);
    """
)


def has_ring_buffer() -> bool:
    """Whether ring buffer maps can be made (Linux 5.8)."""
    with captured_log():
        return bool(lib.libbpf_probe_bpf_map_type(_MAP_TYPE_RING_BUFFER, ffi.NULL) == 1)


def has_redirect_peer() -> bool:
    """Whether tc programs may call bpf_redirect_peer (Linux 5.10)."""
    with captured_log():
        found = lib.libbpf_probe_bpf_helper(
            _PROGRAM_TYPE_SCHED_CLS, _HELPER_REDIRECT_PEER, ffi.NULL
        )
    return bool(found == 1)

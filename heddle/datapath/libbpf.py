"""libbpf.so.1 through cffi in ABI mode: no compiler is needed to install.

Only what heddle calls is declared, since parsing the declarations is most of
the import time. A failed call raises KernelError with the kernel's reason.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from cffi import FFI

from heddle.errors import KernelError

# What cffi makes has the attributes that the declarations give it.
CData: TypeAlias = Any
ffi: CData = FFI()
ffi.cdef(
    """
    int bpf_map_create(int type, const char *name, uint32_t key_size, uint32_t value_size,
                       uint32_t max_entries, const void *opts);
    int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags);
    int bpf_map_lookup_elem(int fd, const void *key, void *value);
    int bpf_map_delete_elem(int fd, const void *key);
    int bpf_map_lookup_batch(int fd, void *in, void *out, void *keys, void *values,
                             uint32_t *count, const void *opts);
    int bpf_map_update_batch(int fd, const void *keys, const void *values, uint32_t *count,
                             const void *opts);
    int bpf_map_delete_batch(int fd, const void *keys, uint32_t *count, const void *opts);
    int bpf_obj_get(const char *path);
    int bpf_obj_pin(int fd, const char *path);
    int bpf_obj_get_info_by_fd(int fd, void *info, uint32_t *length);
    int bpf_map_get_fd_by_id(uint32_t id);
    int bpf_link_create(int program_fd, int target, int attach_type, const void *opts);
    int libbpf_num_possible_cpus(void);

    struct map_info { uint32_t type, id, key_size, value_size, max_entries, map_flags;
                      char name[16]; };
    struct prog_info { uint32_t type, id; uint8_t tag[8]; uint32_t jited_length, xlated_length;
                       uint64_t jited, xlated, load_time; uint32_t uid, nr_map_ids;
                       uint64_t map_ids; char name[16]; };

    struct tcx_link_info { uint32_t type, id, program_id, pad, ifindex, attach_type; };

    struct test_run { size_t sz; const void *data_in; void *data_out;
                      uint32_t data_size_in, data_size_out; const void *ctx_in; void *ctx_out;
                      uint32_t ctx_size_in, ctx_size_out, retval; int repeat;
                      uint32_t duration, flags, cpu, batch_size; };
    struct skb { uint32_t len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci,
                 vlan_proto, priority, ingress_ifindex, ifindex, tc_index, cb[5], hash,
                 tc_classid, data, data_end, napi_id, family, remote_ip4, local_ip4,
                 remote_ip6[4], local_ip6[4], remote_port, local_port, data_meta;
                 uint64_t flow_keys, tstamp; uint32_t wire_len, gso_segs; uint64_t sk;
                 uint32_t gso_size, tstamp_type; uint64_t hwtstamp; };
    int bpf_prog_test_run_opts(int fd, struct test_run *opts);

    void *bpf_object__open_file(const char *path, const void *opts);
    void *bpf_object__next_map(const void *object, const void *previous);
    void *bpf_object__find_program_by_name(const void *object, const char *name);
    int bpf_object__load(void *object);
    void bpf_object__close(void *object);
    const char *bpf_map__name(const void *map);
    const char *bpf_map__pin_path(const void *map);
    int bpf_map__set_pin_path(void *map, const char *path);
    int bpf_map__type(const void *map);
    uint32_t bpf_map__key_size(const void *map);
    uint32_t bpf_map__value_size(const void *map);
    uint32_t bpf_map__max_entries(const void *map);
    bool bpf_map__is_internal(const void *map);
    int bpf_program__fd(const void *program);

    typedef int (*print_function)(int level, const char *format, void *arguments);
    print_function libbpf_set_print(print_function);
    int vsnprintf(char *buffer, size_t size, const char *format, void *arguments);

    void *ring_buffer__new(int fd, int (*sample)(void *, void *, size_t), void *, const void *);
    int ring_buffer__consume(void *ring);
    int ring_buffer__epoll_fd(const void *ring);
    void ring_buffer__free(void *ring);

    int mount(const char *source, const char *target, const char *type, unsigned long flags,
              const char *data);
    """
)


def _open_library() -> CData:
    try:
        return ffi.dlopen("libbpf.so.1")
    except OSError as error:
        raise KernelError("libbpf.so.1 is missing: apt-get install libbpf1") from error


_LIBBPF_WARN = 0
lib = _open_library()
libc = ffi.dlopen(None)


def reason(result: int) -> str:
    """The text of a negative errno."""
    return os.strerror(-result)


def check(result: int, action: str) -> int:
    """Return a result that is no error; raise KernelError for a negative errno.

    ``action`` names the object and what was tried; what to do follows from the
    errno where one remedy is likely.
    """
    if result >= 0:
        return result
    remedy = {
        errno.EPERM: "; run as root",
        errno.EACCES: "; run as root",
        errno.E2BIG: "; the table is full",
        errno.ENOMEM: "; free memory or raise the memory limit",
    }.get(-result, "")
    raise KernelError(f"{action}: {reason(result)}{remedy}")


@contextmanager
def captured_log() -> Iterator[list[str]]:
    """Collect libbpf's warnings, the verifier's log included, instead of printing them."""
    lines: list[str] = []

    def collect(level: int, template: CData, arguments: CData) -> int:
        if level > _LIBBPF_WARN:
            return 0
        buffer = ffi.new("char[]", 1 << 20)
        libc.vsnprintf(buffer, len(buffer), template, arguments)
        lines.extend(ffi.string(buffer).decode(errors="replace").splitlines())
        return 0

    # A va_list argument is a pointer in the calling conventions of x86-64 and arm64.
    callback = ffi.callback("int(int, char *, void *)", collect)
    previous = lib.libbpf_set_print(callback)
    try:
        yield lines
    finally:
        lib.libbpf_set_print(previous)


def map_info(fd: int) -> CData:
    """struct bpf_map_info (its beginning) of a map."""
    return _info(fd, "struct map_info *")


def program_info(fd: int) -> CData:
    """struct bpf_prog_info (its beginning) of a program."""
    return _info(fd, "struct prog_info *")


def tcx_link_info(fd: int) -> CData:
    """struct bpf_link_info (its beginning) of a link to a program at a device; an
    ifindex of 0 says that the device has gone."""
    return _info(fd, "struct tcx_link_info *")


def program_map_ids(fd: int) -> set[int]:
    """Ids of the maps that a loaded program uses."""
    info = program_info(fd)
    ids = ffi.new("uint32_t[]", info.nr_map_ids)
    wanted = ffi.new("struct prog_info *", {"nr_map_ids": len(ids)})
    wanted.map_ids = int(ffi.cast("uintptr_t", ids))
    _read_info(fd, wanted)
    return set(ids)


def _info(fd: int, kind: str) -> CData:
    info = ffi.new(kind)
    _read_info(fd, info)
    return info


def _read_info(fd: int, info: CData) -> None:
    length = ffi.new("uint32_t *", ffi.sizeof(info[0]))
    check(lib.bpf_obj_get_info_by_fd(fd, info, length), "read about a BPF object")

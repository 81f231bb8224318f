"""The compiled eBPF programs: loading, maps, layouts from BTF, test runs."""

"""Makes the kernel match a HostState."""

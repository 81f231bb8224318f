"""What ports are plugged into: libvirt domains and containers."""

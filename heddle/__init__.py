"""heddle: a distributed virtual switch and router for KVM hosts."""

__version__ = "0.1.0"

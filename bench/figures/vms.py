from bench.report import Figure, Measured, at_least


def measure() -> Measured:
    raise NotImplementedError


FIGURE = Figure(
    "vms",
    "TCP between two emulated VMs in two subnets",
    {"vm-tcp-of-bridge": at_least(1.0, "of the same VMs on one Linux bridge")},
    measure,
)

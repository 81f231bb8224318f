from collections.abc import Mapping
from heddle.compiler.state import MachineSpec
from heddle.hypervisor.status import MachineStatus


class Containers:
    def reconcile(self, specs: Mapping[str, MachineSpec]) -> dict[str, MachineStatus]:
        return {n: MachineStatus("running", True, None) for n in specs}

"""What the checks of one topology share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heddle.intent.addresses import Address
from heddle.intent.names import DEFAULT_GROUP
from heddle.intent.problems import KeyPath, Problems, suggestion
from heddle.intent.schema import NetworkSpec, TopologySpec


@dataclass(slots=True)
class Context:
    """The topology, what is known to be broken in it, and who has what."""

    spec: TopologySpec
    broken: set[tuple[str, str]]  # (section, name): reported already
    problems: Problems
    folder: Path
    warnings: list[str] = field(default_factory=list)
    _owners: dict[tuple[str, Address | str], str] = field(default_factory=dict)

    @property
    def names(self) -> Mapping[str, list[str]]:
        """Names by section, those of broken objects included."""
        sections: dict[str, Iterable[str]] = {
            "networks": self.spec.networks,
            "routers": self.spec.routers,
            "address_groups": self.spec.address_groups,
            "security_groups": self.spec.security_groups,
            "machines": self.spec.machines,
        }
        return {
            section: [*intact, *sorted(name for key, name in self.broken if key == section)]
            for section, intact in sections.items()
        }

    def network(self, name: str, path: KeyPath) -> NetworkSpec | None:
        """The named network; reports a name that leads nowhere."""
        found = self.spec.networks.get(name)
        if found is None and ("networks", name) not in self.broken:
            hint = suggestion(name, self.names["networks"])
            self.problems.add(path, f'network "{name}" does not exist; {hint}')
        return found

    def missing(self, section: str, name: str) -> str | None:
        """What is wrong with the name of a security or address group, if so."""
        groups = getattr(self.spec, section)
        if name in groups or (section, name) in self.broken:
            return None
        own = [DEFAULT_GROUP] if section == "security_groups" else []
        if name in own:
            return None
        hint = suggestion(name, [*self.names[section], *own])
        return f'{section[:-1].replace("_", " ")} "{name}" does not exist; {hint}'

    def claim(self, network: str, what: Address | str, owner: str) -> str | None:
        """Take an address or MAC of a network; the earlier owner if it is taken."""
        other = self._owners.setdefault((network, what), owner)
        return other if other != owner else None

    def warn(self, path: KeyPath, what: str) -> None:
        self.warnings.append(self.problems.source.message(path, what))

"""Policy that changes under traffic: rules and groups come and go."""

from __future__ import annotations

from random import Random

from heddle.intent.model import AnyResource, Port, SecurityGroup, SecurityGroupRule

Change = tuple[AnyResource | None, AnyResource | None]


class Changes:
    """One object at a time becomes another, or goes, or comes back."""

    def __init__(self, objects: list[AnyResource]) -> None:
        self._objects = list(objects)
        self._groups = [o.id for o in objects if isinstance(o, SecurityGroup)]
        self._gone: list[AnyResource] = []

    def next(self, random: Random) -> Change:
        """Before and after."""
        if self._gone and random.random() < 0.4:
            return self._become(None, self._gone.pop())
        kinds = {
            SecurityGroupRule: self._without,
            SecurityGroup: self._turned,
            Port: self._regrouped,
        }
        kind = random.choice((SecurityGroupRule, SecurityGroupRule, SecurityGroup, Port))
        found = [o for o in self._objects if isinstance(o, kind)]
        return kinds[kind](random, random.choice(found)) if found else (None, None)

    def _without(self, _random: Random, rule: AnyResource) -> Change:
        self._gone.append(rule)
        return self._become(rule, None)

    def _turned(self, _random: Random, group: AnyResource) -> Change:
        """Stateful becomes stateless, and back."""
        assert isinstance(group, SecurityGroup)
        return self._become(group, group.model_copy(update={"stateful": not group.stateful}))

    def _regrouped(self, random: Random, port: AnyResource) -> Change:
        assert isinstance(port, Port)
        groups = tuple(g for g in self._groups if port.port_security and random.random() < 0.6)
        return self._become(port, port.model_copy(update={"security_group_ids": groups}))

    def _become(self, before: AnyResource | None, after: AnyResource | None) -> Change:
        self._objects = [o for o in self._objects if o is not before]
        self._objects += [after] if after is not None else []
        return before, after

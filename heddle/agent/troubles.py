"""What the tasks of an agent can't do just now, as `heddle show` tells it."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


class Troubles:
    """One sentence per task; ``publish`` is called when a noted one has changed."""

    def __init__(self, publish: Callable[[], None]) -> None:
        self._sentences: dict[str, str] = {}
        self._publish = publish

    def note(self, task: str, sentence: str) -> None:
        """What a task can't do; "": it can."""
        if self._sentences.get(task, "") == sentence:
            return
        if sentence:
            log.warning("%s: %s", task, sentence)
        self.set(task, sentence)
        self._publish()

    def set(self, task: str, sentence: str) -> None:
        """The same for what is logged and published elsewhere."""
        if sentence:
            self._sentences[task] = sentence
        else:
            self._sentences.pop(task, None)

    def as_json(self) -> dict[str, str]:
        return dict(self._sentences)

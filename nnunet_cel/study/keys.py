"""Reads mappings with known keys, and remembers all that is wrong with them."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

__all__ = ["Section", "closest"]

# A YAML file of a few lines can stand for billions of values.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


def closest(name: object, known: Collection[str]) -> str:
    """Return a question that names the most similar known name, or an empty text."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


class Section:
    """One mapping of a settings file.

    Args:
        content: The mapping, or whatever stands in its place.
        where: Its name in messages, such as ``training``; empty for the whole file.
        problems: Gets one message for each thing that is wrong.
    """

    def __init__(self, content: object, where: str, problems: list[str]) -> None:
        self._where = where
        self._problems = problems
        self._taken: list[str] = []
        self._content: Mapping[Any, Any] = {}
        if isinstance(content, Mapping):
            self._content = content
        elif content is not None:
            self.fail(where or "file", "a mapping of keys and values", content)

    def __contains__(self, key: str) -> bool:
        return self._content.get(key) is not None

    def name(self, key: object) -> str:
        """Return the full name of a key, such as ``training.folds``."""
        return f"{self._where}.{key}" if self._where else str(key)

    def fail(self, key: str, rule: str, value: object, cure: str = "") -> None:
        """Remember that the value of a key, by its full name, is wrong."""
        self.complain(
            f"The {key!r} of the study must be {rule}. Got {_SHORT.repr(value)} "
            f"instead.{cure}"
        )

    def complain(self, message: str) -> None:
        """Remember a message."""
        self._problems.append(message)

    def take(
        self,
        key: str,
        default: Any,
        rule: str = "",
        allowed: Callable[[Any], bool] = lambda _: True,
    ) -> Any:
        """Return the value of a key, the default where there is none or a wrong one.

        Args:
            key: The key.
            default: Value where the key is missing or empty.
            rule: What the value must be, for the message.
            allowed: Says whether a value is allowed.
        """
        self._taken.append(key)
        value = self._content.get(key)
        if value is None:
            return default
        if not allowed(value):
            self.fail(self.name(key), rule, value)
            return default
        return value

    def section(self, key: str) -> Section:
        """Return the mapping under a key, an empty one if there is none."""
        self._taken.append(key)
        return Section(self._content.get(key), self.name(key), self._problems)

    def items(self, known: Collection[str], what: str) -> dict[str, Any]:
        """Return all entries; those whose keys are not known are remembered as wrong.

        Args:
            known: The keys that there may be.
            what: What a key is, for the message.
        """
        for key in self._content:
            if key not in known:
                self.complain(
                    f"The {self.name(key)!r} of the study must be {what}. "
                    f"{str(key)!r} is none.{closest(key, known)} There are "
                    f"{', '.join(known)}."
                )
        return {key: value for key, value in self._content.items() if key in known}

    def finish(self) -> None:
        """Remember every key that nobody asked for."""
        for key in self._content:
            if key not in self._taken:
                self.complain(
                    f"The study has no key {self.name(key)!r}."
                    f"{closest(key, self._taken)} Keys here: "
                    f"{', '.join(dict.fromkeys(self._taken))}."
                )

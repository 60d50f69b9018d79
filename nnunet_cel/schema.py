"""Checks what people write into settings files, and says what is wrong with it.

Settings, rules of an evaluation, studies and manifests are pydantic models that derive
from :class:`Model`. :func:`parse` turns what pydantic finds into one message in the
words of this package: the setting, the rule, what was got, the nearest known name.
"""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Collection, Iterator
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["Model", "closest", "parse"]

Checked = TypeVar("Checked", bound=BaseModel)

# A YAML file of a few lines can stand for billions of values.
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200

_RULES = {
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_type": "an integer",
    "list_type": "a list",
    "dict_type": "a mapping of keys and values",
    "model_type": "a mapping of keys and values",
    "none_required": "null",
    "string_type": "a text",
    "string_too_short": "a text",
    "string_pattern_mismatch": "a text that fits {pattern}",
    "too_short": "of {min_length} or more entries",
    "too_long": "of {max_length} or fewer entries",
    "tuple_type": "a list",
    "greater_than": "a number > {gt}",
    "greater_than_equal": "a number >= {ge}",
    "less_than": "a number < {lt}",
    "less_than_equal": "a number <= {le}",
    "literal_error": "one of {expected}",
}
"""Our words for what pydantic calls its kinds of errors."""


# pydantic names the branches of unions, too, which nobody wrote.
_BRANCH = re.compile(r"[\[(]|^(int|float|str|bool|none|list|dict|tuple)$")


class Model(BaseModel):
    """A record that cannot be changed, of known keys, whose values are not converted.

    ``true`` is no number and ``"1"`` no integer; an integer is a number.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False
    )


def parse(
    model: type[Checked], content: object, what: str, *, context: object = None
) -> Checked:
    """Return a record, checked.

    Args:
        model: Its class.
        content: A mapping of keys and values, as JSON or YAML hold it.
        what: What to call the whole in messages, for example ``"study.yaml"``.
        context: What validators are told, such as the folder of relative paths.

    Raises:
        ValueError: If anything is wrong; the message names all of it.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        problems = list(dict.fromkeys(_problems(error, model, what)))
    if len(problems) == 1:
        raise ValueError(problems[0])
    listed = "\n".join(f"- {problem}" for problem in problems)
    raise ValueError(f"{what} has {len(problems)} problems:\n{listed}")


def closest(name: object, known: Collection[str]) -> str:
    """Return a question that names the most similar known name, or an empty text."""
    found = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def _problems(
    error: ValidationError, model: type[BaseModel], what: str
) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong."""
    for found in error.errors(include_url=False):
        kind, context = found["type"], found.get("ctx", {})
        *above, key = map(str, found["loc"] or ("content",))
        path = [part for part in above if not _BRANCH.search(part)]
        if kind == "extra_forbidden":  # of a key that may be called "int"
            known = _keys(model, path)
            yield (
                f"{what} has no setting {'.'.join([*path, key])!r}."
                f"{closest(key, known)} Known here: {', '.join(known)}."
            )
            continue
        name = ".".join(path if _BRANCH.search(key) else [*path, key])
        if kind == "missing":
            yield f"The {name!r} of {what} must be given. It is missing."
        elif kind == "value_error":  # raised by a validator, in our words already
            text = str(context["error"])
            tells_rule_alone = text.startswith("must ")
            yield f"The {name!r} of {what} {text}" if tells_rule_alone else text
        else:
            rule = found["msg"].removeprefix("Input should be ")
            if kind in _RULES:
                rule = _RULES[kind].format(**context)
            choices = re.findall("'(.*?)'", rule) if kind == "literal_error" else []
            hint = closest(found["input"], choices)
            yield (
                f"The {name!r} of {what} must be {rule}. "
                f"Got {_SHORT.repr(found['input'])} instead.{hint}"
            )


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the keys of the record at a place below a model."""
    for part in path:
        field = model.model_fields.get(part)
        model = next(_models(field.annotation), model) if field else model
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a type is made of."""
    parts = get_args(annotation)
    for part in parts:
        yield from _models(part)
    if not parts and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation

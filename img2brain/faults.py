"""Faults: what a validation found wrong, as one line for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from img2brain.errors import did_you_mean, quoted

# What a key must do, by the type of the fault.
_REQUIREMENTS = {
    "string_type": "be text",
    "path_type": "be text",
    "int_type": "be a whole number",
    "int_from_float": "be a whole number",
    "float_type": "be a number",
    "finite_number": "be finite",
    "bool_type": "be true or false",
    "tuple_type": "be a list",
    "model_type": "be a table",
    "dict_type": "be a table",
    "mapping_type": "be a table",
    "literal_error": "be {expected}",
    "greater_than": "be > {gt:g}",
    "greater_than_equal": "be >= {ge:g}",
    "less_than": "be < {lt:.10g}",
    "less_than_equal": "be <= {le:.10g}",
    "too_short": "hold at least {min_length} item",
    "string_too_long": "have at most {max_length} characters",
}
_BRANCHES = frozenset(
    ("interval", "choices", "number", "flag", "int", "float", "search", "every", "named", "text")
)  # in places, but not in files; a key at the top may be called so


def describe(kind: type[BaseModel], error: ValidationError) -> str:
    """Say the first fault on one line: key, what is allowed, what was found; of keys that are missing all.

    Parameters
    ----------
    kind : type
        What was validated.
    error : ValidationError
        All that was wrong with it.

    Examples
    --------
    >>> from img2brain.spec import SampleSpec
    >>> try:
    ...     SampleSpec(images=3)
    ... except ValidationError as error:
    ...     print(describe(SampleSpec, error))
    'images' must be >= 20. Got 3.
    >>> try:
    ...     SampleSpec.model_validate(3)
    ... except ValidationError as error:
    ...     print(describe(SampleSpec, error))
    it must be a table. Got 3.
    """
    fault = next(_most_telling(error))
    place, key = fault["loc"], key_of(fault["loc"])
    if fault["type"] == "extra_forbidden":
        unknown = f"{key_of(place[:-1])}.{place[-1]}".removeprefix(".")
        return f"unknown key {quoted(unknown)}. {did_you_mean(str(place[-1]), _fields_at(kind, place[:-1]))}"
    if fault["type"] == "missing":
        return _missing([key_of(other["loc"]) for other in error.errors() if other["type"] == "missing"])
    if fault["type"] == "value_error":
        message = str(fault["ctx"]["error"])
        told = message if message.endswith(("?", ".")) else f"{message}."
        return f"{key!r}: {told}" if key else told
    what = repr(key) if key else "it"
    return f"{what} must {_requirement(kind, fault)}. Got {shown(fault['input'])}."


def _missing(keys: Sequence[str]) -> str:
    """Name the keys that are missing.

    Examples
    --------
    >>> _missing(["name"]), _missing(["name", "trials", "backbones"])
    ("the key 'name' is missing.", "the keys 'name', 'trials' and 'backbones' are missing.")
    """
    *others, last = map(repr, keys)
    return f"the keys {', '.join(others)} and {last} are missing." if others else f"the key {last} is missing."


def key_of(place: tuple[int | str, ...]) -> str:
    """Name a place as a person would.

    Examples
    --------
    >>> key_of(("backbones", 0, "weights"))
    'backbones[0].weights'
    """
    within = [part for number, part in enumerate(place) if number == 0 or part not in _BRANCHES]
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in within)
    return "".join(parts).removeprefix(".")


def shown(found: Any) -> str:
    """Show a value as it stands in a file, or what it is where it is long.

    Examples
    --------
    >>> shown(True), shown("3"), shown([1, 2])
    ('true', "'3'", 'a list')
    """
    if isinstance(found, bool):
        return str(found).lower()
    if isinstance(found, list | tuple):
        return "a list" if found else "an empty list"
    return "a table" if isinstance(found, Mapping) else quoted(found) if isinstance(found, str) else str(found)


def _requirement(kind: type[BaseModel], fault: Any) -> str:
    """Say what a value must do, in the words of its field where the fault alone says too little."""
    if fault["loc"] and fault["loc"][-1] in ("int", "float"):
        return "be a number" if fault["type"] != "finite_number" else "be finite"
    if fault["type"] == "string_pattern_mismatch":
        return str(_at(kind, fault["loc"])[0].description)
    wording = _REQUIREMENTS.get(fault["type"])
    return wording.format(**fault.get("ctx", {})) if wording else f"be valid ({fault['msg']})"


def _most_telling(error: ValidationError) -> Iterator[Any]:
    """Yield faults, unknown keys first: a mistyped key also shows as a missing one."""
    faults = error.errors(include_url=False)
    yield from (fault for fault in faults if fault["type"] == "extra_forbidden")
    yield from faults


def _fields_at(kind: Any, place: tuple[int | str, ...]) -> list[str]:
    """List the keys allowed at a place."""
    return list(_at(kind, place)[1])


def _at(kind: Any, place: tuple[int | str, ...]) -> tuple[Any, Mapping[str, Any]]:
    """Return the innermost field of a place, and the fields that it has itself."""
    field: Any = None
    fields: Mapping[str, Any] = kind.model_fields
    for part in place:
        if isinstance(part, int) or part not in fields:
            continue
        field = fields[part]
        nested = next(_models_in(field.annotation), None)
        fields = nested.model_fields if nested else {}
    return field, fields


def _models_in(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)

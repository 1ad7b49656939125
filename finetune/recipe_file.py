"""A recipe file to a Recipe: strict, with the line of every fault, and ``key=value`` on top."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from finetune.faults import Faults
from finetune.recipe import Recipe

Location = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 5e-5 as a text; everybody who writes it in a recipe means the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read(path: Path, overrides: Sequence[str], faults: Faults) -> Recipe | None:
    """The recipe of a YAML file with ``section.key=value`` overrides applied.

    Every fault goes to ``faults`` with file and line. What is returned then is the recipe without its faulty keys, if
    that makes one, so that its data can be checked in the same go.
    """
    values, lines = _parse(path, faults)
    if values is None:
        return None
    for override in overrides:
        _override(values, lines, override, faults)
    faults.places.update({_dotted(location) or "": place for location, place in lines.items()})
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        for location, details in _by_location(error).items():
            faults.add(_place(path, location, lines), _explain(location, details))
            _remove(values, location)
    try:
        return Recipe.model_validate(values)
    except ValidationError:
        return None


def known_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> dict[str, str]:
    """Every key of a recipe, dotted, with its description."""
    keys: dict[str, str] = {}
    for name, info in model.model_fields.items():
        section = _section(info.annotation)
        if section is not None:
            keys |= known_keys(section, f"{prefix}{name}.")
        else:
            keys[prefix + name] = info.description or ""
    return keys


def _section(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *get_args(annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _parse(path: Path, faults: Faults) -> tuple[dict[str, Any] | None, dict[Location, str]]:
    lines: dict[Location, str] = {}
    try:
        text = path.read_text("utf-8")
        node, values = yaml.compose(text, _Loader), yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        faults.add(str(path), f"cannot be read ({error}); give the path of a recipe file")
        return None, lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        faults.add(f"{path}:{line}", f"not valid YAML: {error.problem}")
        return None, lines
    except (yaml.YAMLError, ValueError) as error:  # characters that are no text; a date like 2024-13-45
        faults.add(str(path), f"not valid YAML: {' '.join(str(error).split())}")
        return None, lines
    if not isinstance(node, yaml.MappingNode):
        faults.add(f"{path}:1", "a recipe is a mapping of keys to values; see finetune/recipes/ for examples")
        return None, lines
    _note_lines(node, (), path, lines, faults)
    return values, lines


def _note_lines(node: yaml.Node, location: Location, path: Path, lines: dict[Location, str], faults: Faults) -> None:
    lines[location] = f"{path}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            here = (*location, key.value)
            if key.value in seen:
                faults.add(f"{path}:{key.start_mark.line + 1}", f"{_dotted(here)}: given twice; remove one")
            seen.add(key.value)
            _note_lines(value, here, path, lines, faults)
            lines[here] = f"{path}:{key.start_mark.line + 1}"
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*location, index), path, lines, faults)


def _override(values: dict[str, Any], lines: dict[Location, str], override: str, faults: Faults) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        faults.add("command line", f"cannot read {override!r}; write section.key=value")
        return
    parts = key.split(".")
    target = values
    for part in parts[:-1]:
        if not isinstance(target.get(part), dict):
            target[part] = {}
        target = target[part]
    try:
        target[parts[-1]] = yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError):
        faults.add("command line", f"{key}: cannot read the value {text!r}; quote it as YAML")
    for depth in range(1, len(parts) + 1):
        lines.setdefault(tuple(parts[:depth]), "command line")
    lines[tuple(parts)] = "command line"


def _remove(values: dict[str, Any], location: Location) -> None:
    for part in location[:-1]:
        values = values.get(part, {}) if isinstance(values, dict) else {}  # type: ignore[arg-type]
    if location and isinstance(values, dict):
        values.pop(str(location[-1]), None)


def _by_location(error: ValidationError) -> dict[Location, list[Any]]:
    """The details of every faulty key; a key that may be several things has one for each that it is not."""
    details: dict[Location, list[Any]] = {}
    for detail in error.errors():
        location = tuple(part for part in detail["loc"] if not _is_union_branch(part))
        details.setdefault(location, []).append(detail)
    return details


def _is_union_branch(part: str | int) -> bool:
    """pydantic adds the branch of a union (``str``, ``list[str]``, ``constrained-float``) to the location."""
    return isinstance(part, str) and bool(re.match(r"^(str|list\[.*|constrained-.*|float|int|function-.*)$", part))


def _place(path: Path, location: Location, lines: Mapping[Location, str]) -> str:
    while location and location not in lines:
        location = location[:-1]
    return lines.get(location, f"{path}:1")


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)


def _explain(location: Location, details: Sequence[Any]) -> str:
    key = _dotted(location)
    kind = details[0]["type"]
    keys = known_keys()
    if kind == "extra_forbidden":
        return f"{key}: unknown key; {_suggestion(location, keys)}"
    if kind == "missing":
        described = keys.get(key, "")
        return f"{key}: missing" + (f"; {described}" if described else "; see finetune/recipes/ for examples")
    message = ", or ".join(detail["msg"].removeprefix("Value error, ").removeprefix("Input ") for detail in details)
    subject = f"{key}: " if key else ""
    shown = "" if kind == "value_error" else f", got {details[0]['input']!r}"
    return f"{subject}{message}{shown}"


def _suggestion(location: Location, keys: Mapping[str, str]) -> str:
    """The key that was probably meant, else the keys that can stand there."""
    section = _dotted(location[:-1])
    here = {known.removeprefix(f"{section}.").split(".")[0]: known for known in keys if known.startswith(section)}
    leaves = {known.rpartition(".")[2]: known for known in keys}
    written = str(location[-1])
    for candidates in ({name: f"{section}.{name}".lstrip(".") for name in here}, leaves):
        close = difflib.get_close_matches(written, candidates, n=1, cutoff=0.7)
        if close:
            return f"did you mean {candidates[close[0]]}?"
    return f"the keys{f' of {section}' if section else ''} are {', '.join(here)}"

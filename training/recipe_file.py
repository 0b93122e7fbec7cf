"""Reading a recipe: YAML in, a checked `Recipe` out; every complaint names file, line, key and what could stand there."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from specs_eval.errors import ConfigError
from specs_eval.files import write_text_atomic
from specs_eval.training.config import Recipe

Location = tuple[int | str, ...]

_FOLDER = Path(__file__).resolve().parent / "recipes"
_MAX_BYTES = 1_000_000


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with specs-eval."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def find_recipe(text: str) -> Path:
    """The recipe that a user means: a file, or the name of a shipped one.

    Raises:
        ConfigError: neither.
    """
    shipped = shipped_recipes()
    if Path(text).is_file():
        return Path(text)
    if text.removesuffix(".yaml") in shipped:
        return shipped[text.removesuffix(".yaml")]
    raise ConfigError(f"no recipe {text!r}: not a file, and not one of those that ship: {', '.join(shipped)}")


def load_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a file.

    Args:
        path: of the file. Relative paths inside it are seen from the current folder.
        changes: values that stand over those of the file (the command line's).

    Raises:
        ConfigError: it cannot be read, or says something without meaning; names file, line, key and choices.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{path} is larger than {_MAX_BYTES // 1_000_000} MB: not a recipe")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the recipe {path}: {error}") from error
    facts, lines = parse(text, path)
    try:
        return Recipe.model_validate({**facts, **(changes or {})})
    except ValidationError as error:
        raise ConfigError(complaint(path, lines, error)) from error


def save_recipe(recipe: Recipe) -> None:
    """Keep the recipe in its output folder; the file can be run as it is.

    Raises:
        StoreError: the disk refuses.
    """
    facts = recipe.model_dump(mode="json", exclude_none=True)
    write_text_atomic(recipe.output / "recipe.yaml", yaml.safe_dump(facts, sort_keys=False))


def parse(text: str, path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """A YAML mapping as plain types, and the line of every key and item.

    Raises:
        ConfigError: not YAML, not a mapping, or a key twice.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        facts = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f":{mark.line + 1}"
        raise ConfigError(f"{path}{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(facts, dict) or node is None:
        raise ConfigError(f"{path}: a recipe is a mapping of keys; it begins with output, model, stages")
    return facts, dict(_lines(node, (), path))


def _lines(node: yaml.Node, place: Location, path: Path) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            name = str(key.value)
            if name in seen:
                raise ConfigError(f"{path}:{line}: {name} stands here a second time (first in line {seen[name]})")
            seen[name] = line
            yield (*place, name), line
            yield from _lines(value, (*place, name), path)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*place, index), item.start_mark.line + 1
            yield from _lines(item, (*place, index), path)


def complaint(path: Path, lines: Mapping[Location, int], error: ValidationError) -> str:
    """What is wrong, one line for each error."""
    found: dict[str, None] = {}
    for one in error.errors(include_url=False):
        place = _in_file(one["loc"], lines)
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            message = _unknown_key(one["loc"])
        elif one["type"] == "missing":
            message = "is missing"
        name = ".".join(str(part) for part in (one["loc"] if one["type"] == "missing" else place)) or "the recipe"
        found[f"{path}:{_line(place, lines)}: {name}: {message}"] = None
    return "\n".join(found)


def _in_file(location: Location, lines: Mapping[Location, int]) -> Location:
    """The part of an error's location that the file has: pydantic adds names of types."""
    place: Location = ()
    for part in location:
        if (*place, part) in lines:
            place = (*place, part)
    return place


def _line(place: Location, lines: Mapping[Location, int]) -> int:
    return lines.get(place, 1)


def _unknown_key(location: Location) -> str:
    model = _model_at(location[:-1])
    names = list(model.model_fields)
    near = difflib.get_close_matches(str(location[-1]), names, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"unknown key{hint} The keys here are {', '.join(names)}"


def _model_at(location: Location) -> type[BaseModel]:
    """The table that a location of an error is in."""
    model: type[BaseModel] = Recipe
    for part in location:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        inner = None if field is None else next(_tables(field.annotation), None)
        model = inner or model
    return model


def _tables(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, tuple, list):
        for part in get_args(annotation):
            yield from _tables(part)

"""YAML of settings: 1e-4 is a number, a date stays text, and a name that is given twice is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from lab.errors import LabError

DEEPEST = 20
"""Most lists and mappings inside each other; a list that holds itself has no end."""

_TEXT_IN_SETTINGS = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z")
_FRACTION = re.compile(
    r"(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))\Z"
)


class YamlError(LabError):
    """A text that is no YAML, or holds something that no setting can be; the message is the place and the reason."""


class _Loader(yaml.SafeLoader):
    """Reads numbers as YAML 1.2 does (1e-4 is one; 0100 and 1:30 are not octal 64 and 90 seconds), and dates as text."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        known = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in known:
                    raise yaml.composer.ComposerError(None, None, f"{key.value!r} is given twice; keep one of them", key.start_mark)
                known.add(key.value)
        return node


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads."""


for _kind in (_Loader, _Dumper):
    _kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _TEXT_IN_SETTINGS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _FRACTION, list("-+.0123456789"))
    _kind.add_implicit_resolver("tag:yaml.org,2002:int", _WHOLE, list("-+0123456789"))


def read_yaml(text: str) -> Any:
    """Return the content of a YAML or JSON text: texts, numbers, truth values, None, and lists and mappings of these.

    Raises:
        YamlError: If it is none, or holds anything else; the message begins with the place, if there is one.
    """
    try:
        content = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise YamlError(_reason(error)) from None
    except RecursionError:
        raise YamlError("lists or mappings are nested too deeply") from None
    except ValueError as error:  # a value that is not what its tag says, such as !!int x
        raise YamlError(" ".join(str(error).split())) from None
    _check(content, 0)
    return content


def write_flow(value: Any) -> str:
    """Return a text, number, truth value or None as `read_yaml` reads it, on one line."""
    style = '"' if isinstance(value, str) and not value.isprintable() else None  # which escapes line breaks
    text = yaml.dump([value], Dumper=_Dumper, default_style=style, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return str(text).strip().removeprefix("[").removesuffix("]")


def _reason(error: yaml.YAMLError) -> str:
    """Return where a text is no YAML and why: "line 2, column 6: expected ',' or ']', but got ':'"."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{f' ({error.context})' if error.context else ''}"


def _check(value: Any, depth: int) -> None:
    """Raise YamlError for what JSON cannot hold."""
    if depth > DEEPEST:
        raise YamlError("lists or mappings are nested too deeply, or hold themselves")
    if isinstance(value, Mapping):
        for each in value.values():
            _check(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            _check(each, depth + 1)
    elif isinstance(value, str) and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise YamlError(f"{value!r} holds half a character, which no file can; write the whole one")
    elif value is not None and not isinstance(value, (str, int, float)):
        raise YamlError(f"{str(value)!r} is no text, number, list or mapping; leave out its tag (a word that begins with !!)")

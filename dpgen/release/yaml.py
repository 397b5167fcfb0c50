"""Writes YAML of plain values: every text in double quotes, so that nothing is taken for a number,
a date or a yes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[a-z][a-z_]*")
_VALUES = {"yes", "no", "on", "off", "y", "n", "true", "false", "null"}  # to YAML 1.1


def yaml_text(value: Mapping[str, Any]) -> str:
    """Writes the YAML of a table of tables, lists, texts, whole and finite numbers and truth
    values.

    >>> print(yaml_text({"names": {"0": "no", "1": "1e3"}, "empty": [], "epsilon": 1e-05}), end="")
    names:
      "0": "no"
      "1": "1e3"
    empty: []
    epsilon: 1.0e-05
    """
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: Any) -> Iterator[str]:  # noqa: ANN401
    if isinstance(value, Mapping):
        for key, item in value.items():
            if _is_nested(item):
                yield f"{_key(key)}:"
                yield from (f"  {line}" for line in _lines(item))
            else:
                yield f"{_key(key)}: {_scalar(item)}"
    else:
        for item in value:
            first, *rest = list(_lines(item)) if _is_nested(item) else [_scalar(item)]
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)


def _is_nested(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, Mapping | Sequence) and not isinstance(value, str) and bool(value)


def _key(key: str) -> str:
    return key if _PLAIN.fullmatch(key) and key not in _VALUES else _scalar(key)


def _scalar(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, str):
        # JSON's quotes, but for letters that a reader of YAML does not take as they are.
        return "".join(
            c if c.isprintable() else f"\\U{ord(c):08x}"
            for c in json.dumps(value, ensure_ascii=False)
        )
    if isinstance(value, float):
        digits, e, exponent = repr(value).partition("e")
        # YAML 1.1 takes 1e-05 for a text: it wants a point.
        return f"{digits if '.' in digits else digits + '.0'}{e}{exponent}"
    if isinstance(value, list | tuple | Mapping):
        return "[]" if isinstance(value, list | tuple) else "{}"
    return json.dumps(value)

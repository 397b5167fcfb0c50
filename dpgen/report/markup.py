"""HTML and SVG as Python values: text is escaped wherever it did not come from `element`."""

from __future__ import annotations

import html

__all__ = ["Markup", "element", "escape", "together"]

VOID = frozenset({"circle", "img", "line", "path", "rect"})  # elements that hold nothing
# Control characters are errors in HTML, and lone surrogates, which JSON can hold, in UTF-8.
FORBIDDEN = {
    code: "\ufffd" for code in (*range(9), 11, *range(12, 32), 127, *range(0xD800, 0xE000))
}


class Markup(str):
    """Text that is HTML already."""


def escape(text: object) -> Markup:
    """Escapes a value to text of a page or of an attribute; `Markup` stays as it is."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(str(text).translate(FORBIDDEN), quote=True))


def together(*children: object) -> Markup:
    """Joins children one after the other; ``None`` leaves nothing."""
    return Markup("".join(escape(child) for child in children if child is not None))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """Makes one element.

    Guarantees: whatever the children and the values of attributes are, nothing but ``tag`` and the
    names of attributes becomes markup, except children that are `Markup`.

    Args:
        tag: name of the element, a constant of ours.
        children: `Markup`, or values to escape; ``None`` leaves nothing.
        attributes: names with ``_`` for ``-``, a trailing ``_`` dropped (``class_``); ``None``
            leaves the attribute out, ``True`` writes its name only; a float has two decimals.
    """
    written = ""
    for name, value in attributes.items():
        if value is None:
            continue
        name = name.rstrip("_").replace("_", "-")
        text = f"{value:.2f}" if isinstance(value, float) else value
        written += f" {name}" if value is True else f' {name}="{escape(str(text))}"'
    if tag in VOID:
        return Markup(f"<{tag}{written}>" if tag == "img" else f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{together(*children)}</{tag}>")

"""YAML that says back what was written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpgen.release.yaml import yaml_text

yaml = pytest.importorskip("yaml", reason="the reader under test is its own")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.one_of(
    TEXTS, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=3))
def test_a_reader_gets_what_was_written(value: dict[str, Any]) -> None:
    assert yaml.safe_load(yaml_text(value)) == value


@pytest.mark.parametrize("text", ["no", "1e3", "2026-01-01", "a: b", "# x", "- y", "null", "~", ""])
def test_a_text_stays_a_text(text: str) -> None:
    assert yaml.safe_load(yaml_text({"key": text, text: [text]})) == {"key": text, text: [text]}

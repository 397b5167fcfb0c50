"""What `import dpgen` promises: every public name is there, also after its home has moved."""

from __future__ import annotations

import pytest

import dpgen


@pytest.mark.parametrize("name", dpgen.__all__)
def test_every_public_name_is_found_where_the_package_says_that_it_lives(name: str) -> None:
    assert getattr(dpgen, name) is not None


def test_what_is_public_and_what_has_a_home_are_the_same() -> None:
    assert sorted(dpgen._HOMES) == sorted(dpgen.__all__)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = dpgen.lode

"""Collects what is refused of many files, so that one error names all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST_NAMED = 10


class FilesRefused(ValueError):
    """Several files or records are refused. The message has a line for each of the first ten, and
    their names hold no line breaks.
    """


class SetRefused(ValueError):
    """What is wrong with a file is wrong with the whole set: no further file is looked at."""


class Refusals:
    """The refusals among files or records that are looked at one after another."""

    def __init__(self) -> None:
        self._first: list[ValueError | PermissionError] = []
        self._n_refused = self._n_passed = 0

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Notes a refusal in the block instead of raising it; raises all at a `SetRefused`."""
        try:
            yield
        except SetRefused as error:
            self._n_refused += 1
            self._first.append(error)
            self.check()
        except (ValueError, PermissionError) as error:
            self._n_refused += 1
            if self._n_refused <= MOST_NAMED:
                self._first.append(error)
        else:
            self._n_passed += 1

    @property
    def all_refused(self) -> bool:
        """Returns whether the first ten were refused and none was not: others hardly differ."""
        return self._n_refused >= MOST_NAMED and not self._n_passed

    def check(self) -> None:
        """Raises the one error that was noted as it was, several as `FilesRefused`."""
        if self._n_refused == 1:
            raise self._first[0]
        if not self._first:
            return
        more = self._n_refused - len(self._first)
        head = f"{self._n_refused} files or records are refused:"
        if self.all_refused and not more:
            head = f"the first {self._n_refused} files or records are all refused:"
        lines = [head, *(str(error).replace("\n", "\\n") for error in self._first)]
        raise FilesRefused("\n  ".join([*lines, *([f"and {more} more"] if more else [])]))


def rewritten(error: ValueError, text_fn: Callable[[str], str]) -> ValueError:
    """Returns the same refusal with another message."""
    text = text_fn(str(error))
    return type(error)(text) if isinstance(error, FilesRefused | SetRefused) else ValueError(text)

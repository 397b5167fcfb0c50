"""The theorems that statements and docstrings name, with their proofs: the files in ``theorems/``.

A text begins with ``# NAME. Title`` and names on its third line the theorems that it uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dpgen.privacy.statements.recorded import ENSEMBLE, FIXED, SHARDS, Settings, leaf_of

FOLDER = Path(__file__).with_name("theorems")


@dataclass(frozen=True)
class Theorem:
    """A theorem with its proof.

    Args:
        name: name by which it is cited, as "B1".
        title: title, in one line.
        uses: names of the theorems that its proof builds on.
        text: statement, assumptions and proof, in Markdown.
    """

    name: str
    title: str
    uses: tuple[str, ...]
    text: str

    @property
    def cited(self) -> dict[str, str]:
        """Returns the theorem as a statement cites it."""
        return {"name": self.name, "title": self.title}


@cache
def theorems() -> Mapping[str, Theorem]:
    """Returns every theorem by its name."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.md"))}


def _read(path: Path) -> Theorem:
    text = path.read_text(encoding="utf-8")
    first, _, third = text.split("\n")[:3]
    name, title = first.removeprefix("# ").split(". ", 1)
    if name != path.stem:
        raise ValueError(f"{path} must begin with '# {path.stem}. ', got {first!r}")
    uses = third.removeprefix("Uses: ").split(", ") if third.startswith("Uses: ") else []
    return Theorem(name, title, tuple(uses), text)


def applying(stages: Mapping[str, Settings]) -> list[Theorem]:
    """Returns the theorems that the guarantee of a run rests on, from the mechanisms that ran.

    Args:
        stages: settings of each stage's mechanism, by label, as a statement holds them.
    """
    leaves = [leaf_of(settings) for settings in stages.values()]
    kinds = [settings["mechanism"] for settings in stages.values()]
    answered = [kind in (ENSEMBLE, FIXED) for kind in kinds]
    whole = [leaf.rate == 1 for leaf in leaves]
    names = ["B1"] if not all(whole) else []
    names += ["B2"] if any(w and not a for w, a in zip(whole, answered, strict=True)) else []
    of_silos = [SHARDS in s for s in stages.values() if s["mechanism"] == ENSEMBLE]
    names += ["A2-V"] if not all(of_silos) else []
    names += ["A2-S"] if any(of_silos) else []
    names += ["A2-T"] if FIXED in kinds else []
    names += ["F3"] if sum(leaf.steps for leaf in leaves) > 1 else []
    return [theorems()[name] for name in (*names, "A3")]


def with_lemmas(names: Iterable[str]) -> list[Theorem]:
    """Returns these theorems, then all theorems that their proofs use, each once."""
    found: dict[str, Theorem] = {}
    waiting = list(names)
    while waiting:
        one = theorems()[waiting.pop(0)]
        if one.name not in found:
            found[one.name] = one
            waiting += one.uses
    return list(found.values())

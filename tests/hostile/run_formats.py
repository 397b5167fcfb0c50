"""What a finished run and a synthetic set are made of: changed on disk, or forged with hashes that
fit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from dpgen.data.private import PrivateDataset
from dpgen.data.sources import open_source
from dpgen.generator.draw import Draw
from dpgen.images.images import Images, to_uint8
from dpgen.methods.dpdm import DPDM, DPDMSettings
from dpgen.methods.loading import load
from dpgen.privacy.accounting import accountant as accounting
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.opinion import opacus_rdp
from dpgen.privacy.statements.certificate import statement_bytes
from dpgen.privacy.verification.verify import verify
from dpgen.release.cards import WRITERS, cards_check
from dpgen.runs.context import Hardware
from dpgen.stages.teacher import TeacherSettings
from dpgen.storage.canonical import digest
from dpgen.synthetic.synthesise import synthesise
from tests.hostile.formats import Format, as_json, plain, tabled
from tests.hostile.tensor_formats import with_header

STATEMENT = "privacy.json"
NAMES = [
    *(
        f"verify, run/{name}"
        for name in (
            "class_counts.json", "config.json", "facts.json", "ledger.jsonl", "model.safetensors",
            "preview.png", "privacy.json",
        )
    ),
    *(
        f"verify, set/{name}"
        for name in (
            "README.md", "RELEASE.md", "croissant.json", "images-00000.npz", "privacy.json",
            "release.yaml",
        )
    ),
    "verify, forged",
    "sample, forged statement", "load, forged config", "load, forged facts",
    "load, forged header", "load, forged weights",
]  # fmt: skip


def finished_run(folder: Path) -> Path:
    """A tiny run on random images that everyone has, trained in seconds."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (30, 1, 8, 8), generator=generator) / 127.5 - 1
    source = open_source(Images(pixels, torch.arange(30) % 3), classes=3)
    teacher = TeacherSettings(
        warm_start_share=0.5, n_steps=2, n_draws=1, batch=10, bands=3, clip_norm=0.05
    )
    method = DPDM(
        budget=Budget(0.3, 1e-3), settings=DPDMSettings(teacher=teacher, sampling_steps=2)
    )
    data = PrivateDataset(source, public=True)
    method.fit(data, out=folder, seed=0, hardware=Hardware("cpu"))
    return folder


def synthetic_set(run: Path, folder: Path) -> Path:
    """A few samples of the run, with their statement."""
    synthesise(run, 6, folder, Draw(), layout="npz", seed=0)
    return folder


class Remembering:
    """An object that computes each answer of its methods once."""

    def __init__(self, inner: Any) -> None:  # noqa: ANN401
        self._inner, self._known = inner, {}

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        method = getattr(self._inner, name)

        def ask(*question: Any) -> Any:  # noqa: ANN401
            key = repr((name, question))
            if key not in self._known:
                self._known[key] = method(*question)
            return self._known[key]

        return ask


@contextmanager
def remembered_prices() -> Iterator[Callable[[], None]]:
    """Lets the accountant price what it is asked until the yielded function is called; from then on
    an event that it does not know is refused: pricing is not what is looked at, and takes seconds.
    """
    known: dict[str, Any] = {}
    frozen = False
    real = accounting._curve

    def priced(found: Any, *rest: Any) -> Any:  # noqa: ANN401
        key = repr((found, rest))
        if key not in known:
            if frozen:
                raise ValueError("no genuine statement holds this event")
            known[key] = Remembering(real(found, *rest))
        return known[key]

    def freeze() -> None:
        nonlocal frozen
        frozen = True

    second: dict[str, Any] = {}
    rdp = opacus_rdp()
    theirs = rdp.compute_rdp

    def priced_again(**question: Any) -> Any:  # noqa: ANN401
        key = repr(question)
        if key not in second:
            second[key] = theirs(**question)
        return second[key]

    with (
        mock.patch.object(accounting, "_curve", priced),
        mock.patch.object(rdp, "compute_rdp", priced_again),
    ):
        yield freeze


def spoiled(genuine: Path, folder: Path, name: str, content: bytes) -> None:
    """A copy with one other file."""
    shutil.copytree(genuine, folder, dirs_exist_ok=True)
    (folder / name).write_bytes(content)


def holds(folder: Path) -> None:
    """Raises ValueError unless every check passes."""
    failed = [check.name for check in verify(folder) if check.failed]
    if failed:
        raise ValueError(f"{failed} failed")


def sealed(statement: Any) -> bytes:  # noqa: ANN401
    """A statement whose own hash fits, whatever it says."""
    if not isinstance(statement, dict):
        return json.dumps(statement).encode()
    body = {key: value for key, value in statement.items() if key != "sha256"}
    try:
        return statement_bytes({**body, "sha256": digest(body)})
    except ValueError:  # no canonical text, so no hash either
        return json.dumps(body).encode()


def changed(genuine: Path, name: str) -> Format:
    """One file of a folder changed on disk: `verify` never passes, be it but a blank."""
    whole = (genuine / name).read_bytes()

    def judge(content: bytes, folder: Path) -> None:
        spoiled(genuine, folder, name, content)
        holds(folder)
        assert content == whole, "a changed byte passed"

    return plain(f"verify, {genuine.name}/{name}", whole, judge)


def changed_page(genuine: Path, name: str) -> Format:
    """A page of a set changed on disk: the statement does not cover it, so that it is made again
    and compared. It never passes; it may be told apart as of another version.
    """
    whole = (genuine / name).read_bytes()

    def judge(content: bytes, folder: Path) -> None:
        spoiled(genuine, folder, name, content)
        check = cards_check(folder)
        if not check.held:
            raise ValueError(check.seen)
        assert content == whole, "a changed byte passed"

    return plain(f"verify, {genuine.name}/{name}", whole, judge)


def covered(genuine: Path, name: str, content: bytes) -> bytes:
    """The statement of a run that covers another content of one of its files."""
    statement = json.loads((genuine / STATEMENT).read_text())
    statement["artifact"]["files"][name] = hashlib.sha256(content).hexdigest()
    return sealed(statement)


def drawn(folder: Path) -> None:
    """Fails unless a loaded run draws what it promises."""
    images = load(folder).sample(2, generator=torch.Generator().manual_seed(0))
    assert images.pixels.dtype == torch.float32 and images.pixels.shape == (2, 1, 8, 8)
    assert images.labels.tolist() == [0, 1]
    to_uint8(images.pixels)  # as every writer does: pixels that are no numbers are refused there


def forged_file(
    genuine: Path, name: str, read: Callable[[Path], object]
) -> Callable[[bytes, Path], None]:
    def judge(content: bytes, folder: Path) -> None:
        spoiled(genuine, folder, name, content)
        (folder / STATEMENT).write_bytes(covered(genuine, name, content))
        read(folder)

    return judge


def run_formats(run: Path, synthetic: Path) -> list[Format]:
    """Both folders, file by file, and their forgeries."""
    statement = json.loads((run / STATEMENT).read_text())
    model = (run / "model.safetensors").read_bytes()

    def verified(content: bytes, folder: Path) -> None:
        spoiled(run, folder, STATEMENT, content)
        holds(folder)

    def inherited(content: bytes, folder: Path) -> None:
        spoiled(run, folder / "run", STATEMENT, content)
        synthesise(folder / "run", 1, folder / "set", Draw(), layout="npz", seed=0)

    config, facts = (json.loads((run / f"{k}.json").read_text()) for k in ("config", "facts"))
    return [
        *(changed(run, path.name) for path in sorted(run.iterdir())),
        *(
            (changed_page if path.name in WRITERS else changed)(synthetic, path.name)
            for path in sorted(synthetic.iterdir())
        ),
        tabled("verify, forged", statement, sealed, verified),
        tabled("sample, forged statement", statement, sealed, inherited),
        tabled("load, forged config", config, as_json, forged_file(run, "config.json", load)),
        tabled("load, forged facts", facts, as_json, forged_file(run, "facts.json", load)),
        tabled(
            "load, forged header",
            *with_header(model),
            forged_file(run, "model.safetensors", drawn),
        ),
        plain("load, forged weights", model, forged_file(run, "model.safetensors", drawn)),
    ]

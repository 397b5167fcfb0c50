"""Detectors of what is compared with public images, and of what is said of them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from dpgen.auditing.stand_ins import public_stand_ins
from dpgen.data.private import PrivateDataset
from dpgen.images.images import Images, to_float, to_uint8
from dpgen.methods.dpdm import DPDM
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware
from dpgen.training.public_settings import PublicSettings
from tests.mutations.fit_detectors import FACTS, quick, untrained, watched_silently
from tests.mutations.lineage_detectors import PLAN

PUBLIC = public_stand_ins(FACTS, 0)  # none of them is among the records
OTHER = Images(-PUBLIC.pixels, PUBLIC.labels, PUBLIC.class_names)


class Stopped(Exception):
    """The first private step was about to be taken."""


def stop(*given: Any) -> None:  # noqa: ANN401
    raise Stopped


def fit(out: Path, public: Images | None, source: Any = None) -> DPDM:  # noqa: ANN401
    """Trains on private records, from public images where there are some."""
    made = untrained()
    if public is not None:
        teacher = replace(made.settings.teacher, public=PublicSettings(n_steps=2, batch_size=4))
        made.settings = replace(made.settings, teacher=teacher)
    data = PrivateDataset(source or watched_silently(), facts=FACTS)
    return made.fit(data, out=out, seed=0, hardware=Hardware("cpu"), public=public)


def refused(out: Path, public: Images | None, source: Any = None) -> bool:  # noqa: ANN401
    """Returns whether such a training is refused before anything private is computed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PrivateDataset, "begin", stop)
        try:
            fit(out, public, source)
        except ValueError:
            return True
        except Stopped:
            return False
    return False


def strangers() -> Any:  # noqa: ANN401
    """Other private records than those of `watched_silently`."""
    records = watched_silently()
    return type(records)(255 - records.pixels // 2, records.labels, records.class_names)


def overlap(place: Path) -> str:
    """Public images are refused that are records of these data, also after they were resized, or of
    other data that this installation has charged.
    """
    records, wrong = watched_silently(), []
    shown = to_float(records.pixels[:3])
    held = Images(torch.cat([PUBLIC.pixels, shown]), torch.zeros(len(PUBLIC.labels) + 3).long(),
                  FACTS.class_names)  # fmt: skip
    wide = replace(held, pixels=functional.pad(held.pixels, (2, 2)))
    for name, images, how in (("own", held, ""), ("wide", wide, " once they are resized")):
        with quick(place / name):
            if not refused(place / name / "run", images):
                wrong.append(f"private records are learned from as public{how}")
    with quick(place / "other"):
        data = PrivateDataset(records, facts=FACTS)
        data.open_ledger(Budget(2.0, 1e-3), place / "charged")
        data.begin("run", StageKeys(place / "keys"), PLAN)
        if not refused(place / "other/run", held, strangers()):
            wrong.append("private records of other data are learned from as public")
    return "; ".join(wrong)


def start(place: Path) -> str:
    """A run goes on with the public images that it names, and its certificate names those that it
    has learned from.
    """
    wrong = []
    with quick(place):
        for name, images in (("one", PUBLIC), ("two", OTHER)):
            assert not refused(place / name, images)
        states = [place / f"{name}/checkpoint/state/public start.safetensors"
                  for name in ("one", "two")]  # fmt: skip
        kept = states[1].read_bytes()
        shutil.copy(*states)
        if not refused(place / "two", OTHER):
            wrong.append("what was learned from other images is gone on with")
        states[1].write_bytes(kept)
        told = fit(place / "one", PUBLIC).privacy.get("public_start", {}).get("images", {})
        wrong += [f"verify fails: {c.name}" for c in verify(place / "one") if c.failed]
        pixels = to_uint8(PUBLIC.pixels).numpy()
        line = " ".join(map(str, pixels.shape)).encode() + b"\n"
        if told.get("sha256") != hashlib.sha256(line + pixels.tobytes()).hexdigest():
            wrong.append("the certificate does not name what was learned from")
        if not refused(place / "one", OTHER):
            wrong.append("a finished run passes as one from other images")
    return "; ".join(wrong)


def once_public(place: Path) -> str:
    """Records that a network has learned from as public ones are never private afterwards."""
    shown = Images(
        to_float(strangers().pixels[:3]), torch.zeros(3).long(), FACTS.class_names
    )
    with quick(place) as patch:
        with patch.context() as machine:
            machine.setattr(DPDM, "begun_on", staticmethod(stop))
            with pytest.raises(Stopped):
                fit(place / "shown", shown)
        if not refused(place / "late", None, strangers()):
            return "what was public once is charged as private"
    return ""


PUBLIC_START: dict[str, Callable[[Path], str]] = {
    "public overlap": overlap,
    "public start": start,
    "once public": once_public,
}

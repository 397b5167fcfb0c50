"""A student of labelled images: what it learns, what it never sees, and settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.networks.student import ClassifierConfig
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware, Workplace
from dpgen.training import labelled
from dpgen.training.data_free_settings import LabelSettings, PupilSettings
from dpgen.training.labelled import learn, randomised
from dpgen.training.students import untrained

CONFIG = ClassifierConfig((1, 8, 8), 2, 8)


def _images(n: int) -> tuple[Tensor, Tensor]:
    """Two classes, the left half bright or the right half."""
    labels = torch.arange(n) % 2
    images = 0.3 * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[labels == 0, :, :, :4] += 1
    images[labels == 1, :, :, 4:] += 1
    return images, labels


def test_a_student_learns_the_labels_that_it_is_given_and_no_others() -> None:
    images, labels = _images(64)
    swapped = 1 - labels  # no image is of the class that its label says
    for given in (labels, swapped):
        student = untrained(CONFIG, 0)
        settings = PupilSettings(n_steps=30, batch_size=32, width=8)
        learn(student, images, given, settings, generator=torch.Generator(), show=False)
        assert float((student.eval().label(images) == given).float().mean()) > 0.9


def test_a_response_is_made_of_half_of_the_labels_before_there_is_an_opinion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prior of the second half is made of responses to the first alone: whatever the labels of
    the second half are, the sets are the same.
    """
    work = Workplace(Checkpoints(tmp_path), Hardware("cpu").accelerator(), None, 3, False)
    images, labels = _images(40)
    asked: list[tuple[Tensor, Tensor]] = []
    plain = labelled.respond

    def respond(truth: Tensor, masses: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401
        asked.append((truth, masses))
        return plain(truth, masses, *rest)

    monkeypatch.setattr(labelled, "respond", respond)
    settings = PupilSettings(n_steps=3, batch_size=8, width=8)
    changed = torch.cat([labels[:20], 1 - labels[20:]])
    found = [randomised(images, given, 1.0, CONFIG, settings, work) for given in (labels, changed)]
    (first, even), (second, opinion), (again, _), (third, same) = asked
    assert torch.equal(first, labels[:20]) and torch.equal(again, first)
    assert torch.equal(second, labels[20:]) and torch.equal(third, changed[20:])
    assert bool((even == 1).all()) and torch.equal(opinion, same)
    assert torch.allclose(opinion.sum(1), torch.ones(20), atol=1e-5)
    assert torch.equal(found[0][:20], found[1][:20]) and found[0].shape == (40,)


def test_the_number_of_images_follows_the_records_and_their_size() -> None:
    def chosen(n_records: int, *shape: int) -> int | None:
        return LabelSettings().resolved(n_records, shape).n_images  # type: ignore[arg-type]

    assert chosen(60_000, 1, 28, 28) == 20_000
    assert chosen(1437, 1, 8, 8) == 5748
    assert chosen(30, 1, 8, 8) == 1000
    assert chosen(60_000, 3, 128, 128) == 100_000_000 // (3 * 128 * 128)
    assert LabelSettings(7).resolved(60_000, (1, 8, 8)).n_images == 7


def test_settings_that_cannot_run_are_refused() -> None:
    for make, words in (
        (lambda: LabelSettings(n_images=1), "n_images must be at least 2, got 1"),
        (lambda: LabelSettings(randomise=0.0), "randomise must be a number above 0, got 0.0"),
        (lambda: LabelSettings(randomise=math.inf), "randomise must be a number above 0"),
        (lambda: PupilSettings(n_steps=0), "n_steps of the student must be at least 1"),
        (lambda: PupilSettings(width=9), "width of the student must be a positive multiple of 8"),
    ):
        with pytest.raises(ValueError, match=words):
            make()

"""Settings of the teacher: what fills a None, and what is refused before anything is paid."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

import pytest

from dpgen.images.images import PublicFacts
from dpgen.networks.denoiser import Denoiser
from dpgen.privacy.accounting.accountant import Budget
from dpgen.stages import denoising, teacher_plan, warm_start
from dpgen.stages.teacher import untrained
from dpgen.stages.teacher_settings import Teacher, TeacherSettings

FACTS = PublicFacts((1, 8, 8), ("a", "b"), 30, "add_remove", origin="stated")


def network(**settings: object) -> Denoiser:
    return untrained(TeacherSettings(**settings).resolved(FACTS), FACTS, seed=0)  # type: ignore[arg-type]


def test_by_default_the_edm_loss_over_a_prior_that_is_not_seen() -> None:
    resolved = TeacherSettings().resolved(FACTS)
    assert (resolved.loss, resolved.residual) == ("denoising", "added")
    config = network().config
    assert config.prior_bands == resolved.bands and not config.prior_input


def test_a_methods_own_defaults_go_before_the_common_ones_and_behind_what_is_set() -> None:
    own = {"tiny": {"loss": "sliced", "residual": "fed", "n_draws": 99}, "small": {"batch": 1}}
    resolved = TeacherSettings(n_draws=3).resolved(FACTS, own)
    assert (resolved.loss, resolved.residual, resolved.n_draws) == ("sliced", "fed", 3)
    assert resolved.batch == TeacherSettings().resolved(FACTS).batch


def test_resolved_settings_leave_nothing_open_and_are_resolved_once() -> None:
    for settings in (TeacherSettings(), TeacherSettings(warm_start_share=0.0)):
        resolved = settings.resolved(FACTS)
        assert [k for k, v in vars(resolved).items() if v is None] == ["sketch", "public", "init"]
        assert resolved.resolved(FACTS) is resolved
        # What config.json holds of them resolves to the same.
        assert TeacherSettings(**asdict(resolved)).resolved(FACTS) == resolved


def test_resolved_settings_cannot_be_made_with_something_left_open() -> None:
    numbers = asdict(TeacherSettings().resolved(FACTS))
    may = ("sketch", "public", "init")
    opened = [f.name for f in fields(TeacherSettings) if f.default is None and f.name not in may]
    assert len(opened) == 11
    for name in opened:
        with pytest.raises(TypeError, match=name):
            Teacher(**{k: v for k, v in numbers.items() if k != name})


def test_resolved_settings_refuse_facts_that_do_not_go_with_them() -> None:
    teacher = TeacherSettings(batch=20).resolved(FACTS)
    with pytest.raises(ValueError, match=r"batch must lie in \[1, n_records = 19\], got 20"):
        teacher.resolved(replace(FACTS, n_records=19))
    with pytest.raises(ValueError, match="learning_rate must be"):
        replace(teacher, learning_rate=0.0)


def test_residual_says_what_the_gaussian_is_to_the_network() -> None:
    fed, off = network(residual="fed"), network(residual="off", pretrain_steps=2)
    assert fed.prior is not None and fed.config.prior_input
    assert off.prior is None and not off.config.prior_input
    assert network(warm_start_share=0.0).prior is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "slice"}, "loss must be one of denoising, .*, got 'slice'"),
        ({"residual": "on"}, "residual must be one of off, added, fed, got 'on'"),
        ({"residual": "fed", "warm_start_share": 0.0}, "residual must be 'off' without a warm"),
        ({"residual": "off"}, "leaves the warm start to pre-training, got pretrain_steps 0"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_is_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TeacherSettings(**settings).resolved(FACTS)  # type: ignore[arg-type]


def test_loss_and_residual_change_nothing_that_is_charged() -> None:
    """The mechanism is the same DP-SGD: theorem B1 holds for any loss of one record."""
    base = TeacherSettings(n_steps=3, batch=15, warm_start_share=0.5).resolved(FACTS)
    plain = teacher_plan.plan(base, FACTS, Budget(0.3, 1e-3))
    other = replace(base, loss="sliced", residual="fed", n_draws=32)
    changed = teacher_plan.plan(other, FACTS, Budget(0.3, 1e-3))
    assert changed == plain
    assert [stage.label for stage in plain.stages] == [
        warm_start.MEANS,
        warm_start.SPREAD,
        denoising.LABEL,
    ]

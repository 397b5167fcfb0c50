"""The settings of the private teacher, as given and resolved, their defaults, and the checks that
are made before anything is charged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from dpgen.images.facts import PublicFacts
from dpgen.networks.architecture import Architecture
from dpgen.networks.denoiser_config import PRESETS, DenoiserConfig, preset_for
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.training import score_matching
from dpgen.training.public_settings import PublicSettings

WARM_STARTS = ("moments", "sketch")
RESIDUALS = ("off", "added", "fed")

COMMON: dict[str, Any] = {"loss": "denoising", "residual": "added"}
# With the sketch as warm start its images are good enough to train on before DP-SGD.
SKETCHED: dict[str, Any] = {"pretrain_steps": 600}


@dataclass(frozen=True)
class TeacherSettings:
    """The settings of the private stages, as given. A field that is None takes the default of the
    method, or of the preset.

    Args:
        preset: size of the network: quick, tiny, small or base; unless given, the one for
            the shape.
        warm_start_share: share of mu^2 that the warm start gets, in [0, 1]; 0 leaves it out, 1
            leaves DP-SGD out.
        means_share: share of the warm start's mu^2 that class means get, in (0, 1); the spread gets
            the rest.
        bands: the warm start measures variances and covariances of the cosines (of the DCT) whose
            frequencies down and across, u and v, have u + v < bands.
        blend: weight of a class's own covariance against the pooled one.
        pretrain_steps: training steps before DP-SGD, on images drawn from what the warm start
            released; 600 by default where warm_start is "sketch".
        pretrain_batch: images per step of that training before DP-SGD.
        batch: expected Poisson batch, in records; the rate is ``batch / n_records``. A data set
            with fewer records takes a quarter of them.
        n_steps: DP-SGD steps.
        n_draws: noisy copies of each record whose gradients are averaged before clipping (the noise
            multiplicity of DPDM); more cost time, not privacy.
        learning_rate: learning rate of DP-SGD (Adam).
        ema_decay: decay of the averaged weights that are released.
        clip_norm: largest norm of one record's gradient.
        loss: loss that DP-SGD minimises: denoising, sliced-denoising, sliced or variance-reduced.
        residual: use of the warm start's Gaussian: "off" (the network is pre-trained on its images,
            or starts from scratch), "added" (the network corrects it) or "fed" (the network
            corrects it and gets its output as an input).
        warm_start: "moments" (class means and spreads) or "sketch" (embeddings and a decoder; the
            network is pre-trained on its images, whose moments are its Gaussian).
        sketch: settings of the warm start where warm_start is "sketch".
        adapters: rank of low-rank adapters (LoRA) of the attention layers: DP-SGD then trains only
            these, the class embedding and the last convolution of a network that starts from public
            images or other weights; 0 trains the whole network.
        public: settings of the training on public images before all of this, where there are any.
        init: the size of the network where a run begins with other weights (``--init``): it follows
            from them and cannot be set.
    """

    preset: str | None = None
    warm_start_share: float | None = None
    means_share: float = 0.6
    bands: int | None = None
    blend: float = 0.75
    pretrain_steps: int | None = None
    pretrain_batch: int = 128
    batch: int | None = None
    n_steps: int | None = None
    n_draws: int | None = None
    learning_rate: float | None = None
    ema_decay: float | None = None
    clip_norm: float = 1.0
    loss: str | None = None
    residual: str | None = None
    warm_start: str = "moments"
    sketch: SketchSettings | None = None
    adapters: int = 0
    public: PublicSettings | None = None
    init: Architecture | None = None

    def publicly(self) -> Self:
        """Returns these settings for a run that starts from public images."""
        return replace(self, public=self.public or PublicSettings())

    def hurried(self) -> Self:
        """Returns settings for the audit, with fewer of the steps that cost no privacy and the same
        charged ones.
        """
        if not self.pretrain_steps:
            return self
        return replace(self, pretrain_steps=1, pretrain_batch=4)

    def resolved(
        self, facts: PublicFacts, own: Mapping[str, dict[str, Any]] | None = None
    ) -> Teacher:
        """Fills every ``None`` from the preset, which itself follows from the public shape.

        Args:
            facts: public facts of the records.
            own: a method's own defaults by preset, which take precedence over the preset's.

        Raises:
            ValueError: a setting is out of its range, or does not fit another or the facts.
        """
        preset = preset_for(facts.shape, self.preset)
        defaults = COMMON | dict(PRESETS[preset].teacher) | (own or {}).get(preset, {})
        defaults |= {"preset": preset}
        if self.warm_start == "sketch":
            defaults |= SKETCHED
        if self.warm_start_share == 0:
            defaults |= {"residual": "off", "pretrain_steps": 0}
        if self.init is not None:
            defaults["residual"] = self.init.residual
            if self.init.residual == "off" and self.warm_start == "moments":
                defaults |= {"warm_start_share": 0, "pretrain_steps": 0}
        if defaults["batch"] > facts.n_records:
            # A small data set: a quarter of it a step, from public numbers alone.
            defaults |= {"batch": max(1, facts.n_records // 4)}
        asked = {f.name: getattr(self, f.name) for f in fields(self)}
        chosen: dict[str, Any] = {
            k: defaults.get(k) if value is None else value for k, value in asked.items()
        }
        if self.warm_start == "sketch":
            chosen["sketch"] = SketchSettings.chosen(self.sketch, facts)
        return Teacher(**chosen).resolved(facts)


@dataclass(frozen=True, kw_only=True)
class Teacher(TeacherSettings):
    """The settings of the private stages for known public facts, made by
    `TeacherSettings.resolved`: complete and consistent.

    Raises ValueError for settings that would fail later, when the budget is spent.
    """

    # `field()` removes the base's default: each must be given.
    preset: str = field()
    warm_start_share: float = field()
    bands: int = field()
    pretrain_steps: int = field()
    batch: int = field()
    n_steps: int = field()
    n_draws: int = field()
    learning_rate: float = field()
    ema_decay: float = field()
    loss: str = field()
    residual: str = field()

    def __post_init__(self) -> None:
        _check(self)

    def resolved(
        self, facts: PublicFacts, own: Mapping[str, dict[str, Any]] | None = None
    ) -> Teacher:
        """Returns these settings, which are complete. Raises ValueError for facts that do not fit
        them.
        """
        if not 0 < self.batch <= facts.n_records:
            raise ValueError(
                f"batch must lie in [1, n_records = {facts.n_records}], got {self.batch}"
            )
        config = self.network(facts)  # refuses a shape that the network does not support
        if self.adapters:
            config.check_rank(self.adapters)
        return self

    def check_precision(self, precision: str) -> None:
        """Refuses adapters in half precision, which is not supported."""
        if self.adapters and precision != "no":
            raise ValueError(
                f"adapters need precision no (float32), got {precision}: take that, or set "
                "adapters to 0"
            )

    def network(self, facts: PublicFacts) -> DenoiserConfig:
        """Returns the configuration of the teacher's network; refuses an unsupported shape."""
        if self.init is not None:
            bands = self.bands if self.residual != "off" else 0
            return self.init.config(facts.shape, facts.n_classes, prior_bands=bands)
        return DenoiserConfig.preset(
            self.preset,
            facts.shape,
            facts.n_classes,
            prior_bands=self.bands if self.residual != "off" else 0,
            prior_input=self.residual == "fed",
        )


def _check(settings: Teacher) -> None:
    """Refuses settings that would fail later, when the budget is spent."""
    s = settings
    for name, low in (
        ("pretrain_steps", 0), ("pretrain_batch", 1), ("n_steps", 0), ("n_draws", 1),
        ("adapters", 0),
    ):  # fmt: skip
        if getattr(s, name) < low:
            raise ValueError(f"{name} must be at least {low}, got {getattr(s, name)}")
    if not 0 < s.learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be a number greater than 0, got {s.learning_rate}")
    if not 0 <= s.ema_decay < 1:
        raise ValueError(f"ema_decay must lie in [0, 1), got {s.ema_decay}")
    for name in ("warm_start_share", "blend"):
        if not 0 <= getattr(s, name) <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {getattr(s, name)}")
    if not 0 < s.means_share < 1:
        raise ValueError(f"means_share must lie in (0, 1), got {s.means_share}")
    if s.pretrain_steps > 0 and s.warm_start_share == 0:
        raise ValueError(
            f"pretrain_steps must be 0 without a warm start, got {s.pretrain_steps}: "
            "raise warm_start_share"
        )
    if s.warm_start not in WARM_STARTS:
        raise ValueError(
            f"warm_start must be one of {', '.join(WARM_STARTS)}, got {s.warm_start!r}"
        )
    if s.warm_start != "sketch" and s.sketch is not None:
        raise ValueError("sketch.* are settings of warm_start=sketch: set it, or drop them")
    if s.warm_start == "sketch" and (s.warm_start_share == 0 or s.pretrain_steps == 0):
        raise ValueError(
            "warm_start sketch needs a share and a network trained on its images, got "
            f"warm_start_share {s.warm_start_share}, pretrain_steps {s.pretrain_steps}"
        )
    if s.adapters and s.public is None and s.init is None:
        raise ValueError(
            f"adapters must be 0 for a network that has learned nothing before, got {s.adapters}: "
            "name public images with --public DATA, or weights with --init FOLDER"
        )
    score_matching.find(s.loss)
    if s.residual not in RESIDUALS:
        raise ValueError(f"residual must be one of {', '.join(RESIDUALS)}, got {s.residual!r}")
    if s.residual != "off" and s.warm_start_share == 0:
        raise ValueError(
            f"residual must be 'off' without a warm start, got {s.residual!r}: "
            "raise warm_start_share"
        )
    if s.init is not None and s.residual != s.init.residual:
        raise ValueError(
            f"residual must be {s.init.residual!r} with the weights of --init FOLDER, whose "
            f"network was trained so, got {s.residual!r}: leave it out"
        )
    if s.residual == "off" and s.warm_start_share > 0 and s.pretrain_steps == 0:
        raise ValueError(
            "residual 'off' leaves the warm start to pre-training, got pretrain_steps 0: raise it, "
            "or set warm_start_share to 0"
        )

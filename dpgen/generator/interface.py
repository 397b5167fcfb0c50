"""PrivateGenerator: learns once from private images under a budget, then samples without limit.

generator = DPSAD(budget=Budget(epsilon=10, delta=1e-5)).fit(open_images("xrays/"))
images = generator.sample(10_000)
generator.save("run/");  generator = dpgen.load("run/")
"""

from __future__ import annotations

import abc
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn

from dpgen.arguments import speaks_python
from dpgen.data.charged import ChargedData
from dpgen.generator.budget import settle_budget, with_settled_budget
from dpgen.generator.configuration import as_written_now, configuration
from dpgen.generator.fitted import Fitted
from dpgen.generator.public_start import begin_publicly
from dpgen.generator.several import as_private, led_by_process_0
from dpgen.generator.silos import with_silos
from dpgen.generator.stating import stated
from dpgen.images.images import Images, PublicFacts
from dpgen.privacy.plan import Plan
from dpgen.privacy.statements.certificate import CertificateError
from dpgen.privacy.statements.document import Certificate, Notice
from dpgen.privacy.statements.notice import Claim, not_allowed, unpriced
from dpgen.progress import progress_bar
from dpgen.runs.class_counts import keep_class_counts
from dpgen.runs.context import Hardware, Rehearsal, Workplace, in_memory
from dpgen.runs.folder import RunFolder, sweep
from dpgen.runs.kinds import BY_NAME
from dpgen.runs.released import (
    checked_document,
    load_networks,
    read_facts,
    write_files,
)
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import read_json


class PrivateGenerator(Fitted):
    """The common interface of all methods.

    A method is a class with `id`, `Settings` and the abstract members; a method that releases
    anything but a denoiser as ``model`` says so in `kinds`. The constructor takes hyper-parameters
    and a budget, no data; public facts come with the data. A mode promises a `Plan`, and gets a
    certificate; a mode among `unverified_modes` promises a `Claim`, and gets a notice. No later
    step turns one of the two into the other.

    Args:
        budget: the most that `fit` may spend; one without a delta is settled for each data set.
        settings: the method's own dataclass; fields that are None are filled in from the facts.
    """

    id: ClassVar[str]
    Settings: ClassVar[type]
    unverified_modes: ClassVar[frozenset[str]] = frozenset()
    # The kinds of the released networks by file name: keys of `dpgen.runs.kinds.KINDS`.
    kinds: ClassVar[Mapping[str, str]] = BY_NAME
    # Whether it learns from teachers that others have trained, in the place of records.
    of_teachers: ClassVar[bool] = False
    main: ClassVar[str] = "model"  # name of the network without which it is no run

    @abc.abstractmethod
    def resolve(self, facts: PublicFacts) -> Any:  # noqa: ANN401
        """Returns the settings with every None filled in for these facts."""

    @abc.abstractmethod
    def _promise(self, facts: PublicFacts) -> Plan | Claim:
        """Makes the result of `promise`, from public facts alone."""

    @abc.abstractmethod
    def rehearse(self, facts: PublicFacts, hardware: Hardware) -> Rehearsal:
        """Estimates time and memory of `fit`, from a few steps on random images; reads no record.
        """

    @abc.abstractmethod
    def _learn(
        self, data: Any, promise: Any, work: Workplace  # noqa: ANN401
    ) -> Mapping[str, nn.Module]:  # fmt: skip
        """Trains as promised, and returns the networks to release by file name; samples are drawn
        from ``model``.
        """

    def promise(self, facts: PublicFacts) -> Plan | Claim:
        """Returns what `fit` will do, from public facts alone: a plan, every stage of which is
        charged; or for a mode without a guarantee the claim of its paper.

        The result has the type that the mode declares: a mode that was refused, or allowed, as one
        of the two never continues as the other.
        """
        promise = with_settled_budget(self, facts.n_records)._promise(facts)
        wanted = Plan if self.certified else Claim
        if not isinstance(promise, wanted):
            raise TypeError(
                f"{self.mechanism_id} must promise a {wanted.__name__}, got a "
                f"{type(promise).__name__}"
            )
        return promise

    def plan(self, facts: PublicFacts) -> Plan:
        """Returns the plan of a mode with a guarantee, as `promise` does. Raises UnverifiedClaim
        for the others, which have no price.
        """
        promise = self.promise(facts) if self.certified else None
        if not isinstance(promise, Plan):
            raise unpriced(self.mechanism_id)
        return promise

    def claim(self, facts: PublicFacts) -> Claim:
        """Returns the claim of a mode without a guarantee; raises ValueError for the others."""
        promise = None if self.certified else self.promise(facts)
        if not isinstance(promise, Claim):
            raise ValueError(f"{self.mechanism_id} has a guarantee, which plan() prices")
        return promise

    def check_allowed(self, allow_unverified: bool) -> None:
        """Raises UnverifiedClaim when the mode has no guarantee and that was not allowed."""
        self.check_mode_allowed(self.settings.mode, allow_unverified)

    @classmethod
    def check_mode_allowed(cls, mode: str, allow_unverified: bool) -> None:
        """Checks a mode by its name, as `check_allowed`, before there are data and a budget."""
        if mode in cls.unverified_modes and not allow_unverified:
            raise not_allowed(f"{cls.id}/{mode}")

    @property
    def certified(self) -> bool:
        """Returns whether releases of this mode carry a certificate; others carry a notice."""
        return self.settings.mode not in self.unverified_modes

    @property
    def mechanism_id(self) -> str:
        """Returns the id of method and mode, as "dp-sad/sealed"."""
        return f"{self.id}/{self.settings.mode}"

    @speaks_python
    @led_by_process_0
    def fit(
        self,
        data: ChargedData | Images | str | Path | Any,  # noqa: ANN401
        *,
        out: str | Path | None = None,
        seed: int | None = None,
        hardware: Hardware | None = None,
        show: bool = False,
        allow_unverified: bool = False,
        public: Any = None,  # noqa: ANN401
        init: Any = None,  # noqa: ANN401
    ) -> Self:
        """Learns from private records; `plan` is charged to their ledger before the first is read.

        Args:
            data: a result of `open_images`, or anything that it takes and that states its classes.
            out: run folder, made here; an unfinished run of the same configuration in it is resumed
                and pays nothing again, a finished one is loaded. None works in a temporary folder
                until `save`.
            seed: seed of the public randomness (initial weights, distillation); None draws and
                records one. Private randomness never comes from it.
            hardware: device, precision and micro-batch; None takes the defaults.
            show: whether to show progress bars on standard error.
            allow_unverified: runs a mode whose privacy claim is not verified; its releases carry a
                notice and never a certificate.
            public: images that you declare public, of any form that ``data`` may have: networks
                learn from them before the private stages, and the certificate names them. None of
                them may be a private record.
            init: folder of weights with which the network begins, and which the certificate names:
                a UNet2DModel of diffusers, declared public, or a finished run of other records.

        Raises:
            BudgetExceeded: the data set's ledger has no room for the plan; nothing was read.
            UnverifiedClaim: the mode has no guarantee, and ``allow_unverified`` is False.
        """
        self.check_allowed(allow_unverified)
        hardware = hardware or Hardware()
        accelerator = hardware.accelerator()
        data = as_private(data)
        if data.of_teachers != self.of_teachers:
            wanted = "teachers, by dpgen.transcribe_teachers" if self.of_teachers else "records"
            raise ValueError(f"{type(self).__name__} learns from {wanted}, got {data!r:.200}")
        folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="dpgen-"))
        if seed is None:
            held = RunFolder.seed_of(folder)
            seed = secrets.randbits(31) if held is None else held
        settle_budget(self, data.facts.n_records)
        data.open_ledger(self.budget, folder / "checkpoint")
        self.facts = data.facts
        self.budget.check_records(data.facts.n_records)
        with in_memory(lambda: "name fewer public images"):
            start = begin_publicly(self, data, public, init)
        self.settings = with_silos(self, start.settings, data)
        self.settings = self.resolve(data.facts)
        config = configuration(self, seed) | start.config

        def read(held: Any) -> Any:  # noqa: ANN401
            return as_written_now(held, self, data.facts)

        if (folder / "privacy.json").exists() or (folder / "notice.json").exists():
            document = checked_document(folder)
            if read(read_json(folder / "config.json")) != config:
                raise ValueError(
                    f"the run folder {folder} holds a finished run of another configuration: "
                    "choose another folder"
                )
            # The ledger of public data is in the run folder; that of private data keeps its name.
            held = document.content.get("data_set")
            name = held.get("name") if isinstance(held, Mapping) else None
            if not data.public and name != data.ledger.dataset:
                raise ValueError(
                    f"the run folder {folder} holds a finished run on other data: "
                    "choose another folder"
                )
            sweep(folder)
            return self._restore(folder, document)
        promise = self.promise(data.facts)
        self.default_sampler()  # refuses bad settings before anything is charged
        with closing(RunFolder(folder, config, read)) as run:
            work = Workplace(run.checkpoints, accelerator, hardware.micro_batch, seed, show)
            try:
                if start.given is not None and self.begun_on is not None:
                    # Free of charge, and so before it: a training that fails loses nothing.
                    start.note()
                    work = self.begun_on(start.given, self.settings.teacher, data.facts, work)
                if isinstance(promise, Plan):
                    data.begin(run.id, run.keys, promise)
                else:
                    data.begin_unverified(run.id, run.keys, promise)
            except ValueError:
                if run.fresh:
                    run.discard()
                raise
            with in_memory(lambda: "free some, then run the same command again"):
                learned = self._learn(data, promise, work)
            self.networks = {
                name: network.cpu().eval().requires_grad_(False)
                for name, network in learned.items()
            }
            self.folder = folder
            self._release(data, promise, run, config, start.told, show)
        return self

    def _release(
        self, data: ChargedData, promise: Plan | Claim, run: RunFolder, config: dict[str, Any],
        public_start: Mapping[str, Any] | None, show: bool,
    ) -> None:  # fmt: skip
        """Writes the released files, the certificate or notice last, then deletes the keys."""
        folder, facts = run.path, data.facts.to_dict()
        write_files(folder, config, facts, self.networks)
        if isinstance(promise, Plan):
            mechanisms = {stage.label: stage.mechanism for stage in promise.stages}
            keep_class_counts(folder, mechanisms, run.checkpoints, data.facts.class_names)
        self._preview(folder / "preview.png", show)
        document = stated(
            self.mechanism_id, promise, data, self.budget.delta, run.id, folder, public_start,
            config,
        )  # fmt: skip
        replace_durably(folder / document.name, document.to_bytes())
        run.finish()

    def _preview(self, path: Path, show: bool) -> None:
        from dpgen.images.grid import n_preview, save_grid

        facts = self._facts
        labels = torch.arange(facts.n_classes).repeat(10)[: n_preview(facts.n_classes)]
        with progress_bar("preview", 1, show=show) as advance:
            images = self.sample(
                len(labels), labels=labels, generator=torch.Generator().manual_seed(0)
            )
            advance()
        save_grid(images, path, n_classes=facts.n_classes)

    def _restore(self, folder: Path, document: Certificate | Notice) -> Self:
        if isinstance(document, Certificate) != self.certified:
            raise CertificateError(
                f"{folder} does not hold what mode {self.settings.mode!r} releases"
            )
        self.facts = PublicFacts.from_dict(read_facts(folder))
        self.settings = self.resolve(self.facts)
        networks = load_networks(
            folder,
            document.content["artifact"]["files"],
            self.kinds,
            self.facts.shape,
            self.facts.n_classes,
        )
        self.folder, self.networks = folder, networks
        try:
            _ = networks[self.main], self.proposer, self.default_sampler()
        except KeyError as error:
            raise ValueError(f"{folder} must hold {error}.safetensors: it is not a run") from None
        return self

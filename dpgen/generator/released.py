"""What a run has released: networks, public facts, class counts and the document beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dpgen.generator.drawing import DrawnInTurn
from dpgen.generator.fair_labels import Fair, FairLabels
from dpgen.generator.labels import Labels, labels_of
from dpgen.images.images import PublicFacts
from dpgen.privacy.statements.certificate import read_statement
from dpgen.privacy.statements.document import Certificate, Notice, read_document
from dpgen.privacy.statements.notice import read_notice
from dpgen.runs.class_counts import CLASS_COUNTS, read_class_counts


class NotFitted(ValueError):
    """The generator has learned nothing yet: call fit() or load()."""


class Released:
    """Released networks, public facts and the folder they lie in."""

    facts: PublicFacts | None = None
    folder: Path | None = None
    networks: Mapping[str, nn.Module]

    @property
    def privacy(self) -> dict[str, Any]:
        """Returns the privacy statement of the fitted model. Raises CertificateError when it has
        none.
        """
        if self.folder is None:
            raise NotFitted(f"{type(self).__name__}.privacy needs fit() or load() first")
        return read_statement(self.folder)

    @property
    def notice(self) -> dict[str, Any]:
        """Returns the notice of a model without a guarantee. Raises CertificateError for a model
        that has one.
        """
        if self.folder is None:
            raise NotFitted(f"{type(self).__name__}.notice needs fit() or load() first")
        return read_notice(self.folder)

    @property
    def document(self) -> Certificate | Notice:
        """Returns the certificate of the fitted model, or the notice of one without a guarantee."""
        if self.folder is None:
            raise NotFitted(f"{type(self).__name__}.document needs fit() or load() first")
        return read_document(self.folder)

    @property
    def _facts(self) -> PublicFacts:
        if self.facts is None or not getattr(self, "networks", None):
            raise NotFitted(f"{type(self).__name__}.sample needs fit() or load() first")
        return self.facts

    @property
    def class_shares(self) -> dict[str, float] | None:
        """Reads the proportions of the classes as the run released them, noisy and covered by its
        certificate; None where it released none: see `dpgen.runs.class_counts`.
        """
        facts = self._facts
        if self.folder is None or CLASS_COUNTS not in self.document.content["artifact"]["files"]:
            return None
        counts = read_class_counts(self.folder, facts.class_names)
        return dict(zip(facts.class_names, counts.shares(facts.n_records), strict=True))

    @property
    def n_distinct(self) -> int | None:
        """Returns how many different images ``model`` holds, of all classes together: the first so
        many that are drawn by default are each of them once, and then they come again. None for a
        model that draws every image anew.
        """
        facts, model = self._facts, self.networks.get("model")
        return model.n_distinct * facts.n_classes if isinstance(model, DrawnInTurn) else None

    def fair_labels(self, fair: Fair, given: Labels | None) -> FairLabels:
        """Returns how many images each class gets where target and group are independent."""
        shares = self.class_shares if isinstance(given, str) else None
        return FairLabels.asked(fair, given, self._facts.class_names, shares)

    def labels(self, given: Labels | None, n: int | None, fair: Fair | None = None) -> Tensor:
        """Returns the labels (n,) of the images to draw: see `labels_of`, and `fair_labels`."""
        if fair is not None:
            given = self.fair_labels(fair, given).counts(n)
        shares = self.class_shares if isinstance(given, str) else None
        found = None if shares is None else list(shares.values())
        return labels_of(given, n, self._facts.class_names, found)

"""What a generator, its data and its certificate say of themselves in a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dpgen import DPDM, PGE, PublicFacts, open_images
from dpgen.privacy.statements.document import Certificate, Notice
from tests.generator.test_budget import QUICK

RNG = np.random.default_rng(0)


def test_private_data_say_what_is_declared_public_and_no_count_of_their_own() -> None:
    facts = PublicFacts((1, 8, 8), ("ill", "well"), 50, origin="stated")
    labels = np.array([0] * 13 + [1] * 24)
    data = open_images((RNG.integers(0, 256, (37, 8, 8), np.uint8), labels), facts=facts)
    said = repr(data)
    assert said.startswith("PrivateDataset(50 records of 1x8x8, 2 classes (stated public); private")
    assert not any(count in said for count in ("37", "13", "24"))
    assert "public data" in repr(open_images("digits"))


def test_a_generator_says_method_mode_budget_and_whether_it_is_fitted(tmp_path: Path) -> None:
    assert repr(DPDM(epsilon=3)) == (
        "DPDM(mode='dpsgd', epsilon=3.0, delta=by the number of records; not fitted)"
    )
    generator = PGE(epsilon=3, settings=QUICK).fit(open_images("digits"), out=tmp_path / "run")
    assert repr(generator) == (
        "PGE(mode='sketch', epsilon=3.0, delta=1e-05; fitted on 1437 records of 1x8x8, 10 classes "
        f"(declared public), in {tmp_path / 'run'})"
    )
    assert repr(generator.document) == f"Certificate: {generator.privacy['statement']}"
    assert "(3, 1e-05)-differential privacy" in repr(generator.document)


def test_documents_that_say_little_have_words_too() -> None:
    assert repr(Certificate({})) == "Certificate: without a statement"
    assert repr(Notice({})) == "Notice: no privacy guarantee"

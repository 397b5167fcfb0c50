"""Pages of a set: they say what its statement says, are checked against it, and touch no image."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import norm

from dpgen.data.sources import open_source
from dpgen.privacy.statements.certificate import (
    CertificateError,
    read_statement,
    sha256_file,
    tree_hash,
)
from dpgen.privacy.statements.document import Certificate
from dpgen.privacy.verification.verify import verify
from dpgen.release.cards import WRITERS, cards_check, write_cards
from dpgen.release.release_file import ReleaseFile
from dpgen.release.subject import Subject
from dpgen.synthetic.mix import mix
from tests.commands import dpgen
from tests.release.conftest import N_IMAGES, NAMES, reseal

LAYOUTS = ("folder", "npz", "parquet", "webdataset")
RELEASE = """\
name = "Chest phantoms"
curators = ["St. Elsewhere", "Data trust"]
intended_use = "teaching"
region = "Norway"
publication_date = 2026-11-26
sector = "Healthcare"
actors = "The hospital trains. Anyone may read the set."
justification = "Chosen by the board before training."
retention = "Ten years"
license = "cc-by-4.0"
"""


# The fields of the Differential Privacy Deployments Registry, schema of July 2026: the type of
# each, and the words of those that take few.
REGISTRY: dict[str, dict[str, Any]] = {
    "basic": {
        "name": str, "data_curators": list, "description": str, "intended_use": str,
        "data_product_type": {"Synthetic data", "Machine learning model", "Summary statistics"},
        "data_product_region": str, "publication_date": str, "data_product_sector": str,
    },
    "dp_variant": {
        "variant_name": {"Pure DP", "Approximate DP", "Zero-concentrated DP", "Renyi DP"},
        "data_domain": str, "unprotected_quantities": str,
    },
    "privacy_loss": {
        "privacy_unit": str, "privacy_unit_details": str, "privacy_parameters": dict,
        "privacy_parameters_details": str,
    },
    "deployment_model": {
        "model_name": {"Local", "Central", "Shuffle", "Federated"}, "actors": str,
        "release_type": {"One release", "Many releases"}, "release_type_details": str,
        "data_source_type": {"Static", "Dynamic"},
        "access_type": {"Interactive", "Non-interactive"},
    },
    "accounting": {"post_processing": str, "composition": str},
    "implementation": {
        "preprocessing_and_hyperparameter_tuning": str, "mechanisms": str, "justification": str,
    },
    "administrative": {"sources": str, "notes": str, "registry_authors": list},
}  # fmt: skip
CURATED = {
    "data_curators", "intended_use", "data_product_region", "publication_date",
    "data_product_sector", "actors", "justification", "registry_authors",
}  # fmt: skip


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def holds(folder: Path) -> bool:
    return not any(check.failed for check in (*verify(folder), cards_check(folder)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_old_set_gets_the_pages_that_a_new_one_has_and_nothing_else_changes(
    layout: str, drawn: Callable[..., Path]
) -> None:
    folder = drawn(layout, pages=False)
    before = bytes_of(folder)
    assert holds(folder)
    assert cards_check(folder).held is None
    assert write_cards(folder) == list(WRITERS)
    after = bytes_of(folder)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == set(WRITERS)
    assert holds(folder) and cards_check(folder).held
    for name in WRITERS:
        (folder / name).unlink()
    new = drawn(layout, name="new")
    assert set(bytes_of(new)) == set(after)
    assert holds(new) and open_source(new).class_names == NAMES and len(open_source(new)) == 23


@pytest.mark.parametrize("name", WRITERS)
def test_a_page_that_says_anything_else_fails_verify(
    name: str, drawn: Callable[..., Path], tmp_path: Path
) -> None:
    folder = drawn("npz")
    assert dpgen("verify", folder).exit_code == 0
    text = (folder / name).read_text()
    epsilon = f"{read_statement(folder)['guarantee']['epsilon']:g}"
    assert epsilon in text
    (folder / name).write_text(text.replace(epsilon, "0.01"))
    assert not cards_check(folder).held
    ran = dpgen("verify", folder)
    assert ran.exit_code == 1 and f"pages: {name}" in ran.output
    assert dpgen("card", folder).exit_code == 0
    assert (folder / name).read_text() == text and dpgen("verify", folder).exit_code == 0


def test_a_set_with_false_pages_is_not_signed(drawn: Callable[..., Path], tmp_path: Path) -> None:
    serialization = pytest.importorskip(
        "cryptography.hazmat.primitives.serialization", reason="of the extra `secure`"
    )
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = tmp_path / "key.pem"
    key.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    folder = drawn("npz")
    page = (folder / "README.md").read_text()
    (folder / "README.md").write_text(page + "epsilon = 0\n")
    ran = dpgen("sign", folder, "--key", key)
    assert ran.exit_code == 1 and "nothing is signed" in ran.output
    assert not (folder / "privacy.sig").exists()
    # What says that another version wrote it is not compared, so neither refused nor signed.
    other = page.replace(f"(dpgen {version('dpgen')})", "(dpgen 9.9)") + "worded otherwise\n"
    assert other.count("(dpgen 9.9)") >= 1
    (folder / "README.md").write_text(other)
    assert cards_check(folder).held is None and dpgen("verify", folder).exit_code == 0
    assert "not compared, written by dpgen 9.9" in dpgen("verify", folder).output
    assert dpgen("sign", folder, "--key", key).exit_code == 1
    (folder / "README.md").write_text(page)
    assert dpgen("sign", folder, "--key", key).exit_code == 0
    # A signature stays valid when the curator's words change.
    release = tmp_path / "release.toml"
    release.write_text(RELEASE)
    signed = (folder / "privacy.sig").read_bytes()
    assert dpgen("card", folder, "--release", release).exit_code == 0
    assert (folder / "privacy.sig").read_bytes() == signed and holds(folder)


def test_every_other_file_is_still_covered(drawn: Callable[..., Path]) -> None:
    folder = drawn("folder")
    for name in ("readme.md", "notes.txt", "zebra/README.md", "zebra/release.toml", "CARD.md"):
        (folder / name).write_text("more")
        assert not holds(folder), name
        (folder / name).unlink()
    assert holds(folder)
    (folder / "zebra" / "000000.png").write_bytes(b"other")
    assert not holds(folder)


def test_a_set_from_before_there_were_pages_holds_with_a_file_of_that_name(
    drawn: Callable[..., Path]
) -> None:
    folder = drawn("npz", pages=False)
    (folder / "README.md").write_text("by hand")
    whole = tree_hash(folder, cards=True)
    reseal(folder, lambda statement: statement["artifact"].update(files=whole))
    assert not any(check.failed for check in verify(folder))
    (folder / "README.md").write_text("by another hand")
    assert any(check.failed for check in verify(folder))


def test_nothing_that_somebody_wrote_is_written_over(drawn: Callable[..., Path]) -> None:
    folder = drawn("npz", pages=False)
    for name in WRITERS:
        (folder / name).write_text("by hand")
        before = bytes_of(folder)
        with pytest.raises(ValueError, match=f"{name} was not written by dpgen card: move it away"):
            write_cards(folder)
        assert bytes_of(folder) == before
        (folder / name).unlink()


def test_a_changed_set_gets_no_pages(drawn: Callable[..., Path]) -> None:
    folder = drawn("webdataset", pages=False)
    (folder / "dataset.json").write_text("{}")
    before = bytes_of(folder)
    ran = dpgen("card", folder)
    assert ran.exit_code == 1 and "does not hold (files)" in ran.output
    assert bytes_of(folder) == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_set_without_a_guarantee_says_so_in_every_page_and_states_no_epsilon(
    layout: str, noticed: Callable[..., Path]
) -> None:
    folder = noticed(layout)
    for name in WRITERS:
        text = (folder / name).read_text()
        assert "NO PRIVACY GUARANTEE" in text, name
        assert "epsilon" not in text and "1.25" not in text and "0.001" not in text, name
        assert "differential" not in text.lower().replace("deployments", ""), name
    before = bytes_of(folder)
    write_cards(folder)
    assert bytes_of(folder) == before


def test_a_run_gets_no_pages(parent: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    from dpgen.privacy.statements.certificate import statement_bytes
    from dpgen.release.cards import cards_of

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "privacy.json").write_bytes(statement_bytes(parent()))
    with pytest.raises(CertificateError, match="is a trained run and no synthetic set"):
        cards_of(tmp_path / "run")


def test_the_page_to_sign_says_whose_privacy_and_what_an_attacker_gains(
    drawn: Callable[..., Path]
) -> None:
    folder = drawn("npz")
    text = (folder / "RELEASE.md").read_text()
    statement = read_statement(folder)
    said = [
        statement["statement"],
        statement["declared"],
        statement["tuning"]["statement"],
        statement["artifact"]["files"]["sha256"],
        "adding or removing one record",
    ]
    said += [f"{c[0].upper()}{c[1:]}." for c in statement["implementation"]["caveats"]]
    assert [one for one in said if one not in text] == []
    mu = statement["guarantee"]["mu_gdp"]
    table = {float(a): float(b) for a, b in re.findall(r"\| ([\d.]+)% \| ([\d.]+)% \|", text)}
    assert list(table) == [0.1, 1.0]
    for rate, found in table.items():
        exact = 100 * norm.cdf(norm.ppf(rate / 100) + mu)
        assert exact * 0.999 <= found <= exact * 1.01
    for path in folder.glob("images-*.npz"):
        assert path.name in text
    assert len(text.splitlines()) < 90


@pytest.mark.parametrize(
    ("given", "phrases"),
    [
        ({"adjacency": "replace_one"}, ["which of two records was in the data", "replacing one"]),
        (
            {"max_records_per_unit": 3},
            ["One person, with all of their records", "at most 3", "whether one person was"],
        ),
    ],
    ids=["replace one", "person"],
)
def test_unit_and_neighbours_are_those_of_the_statement(
    given: dict[str, Any], phrases: list[str], drawn: Callable[..., Path]
) -> None:
    given = {"adjacency": "add_remove"} | given
    text = (drawn("npz", **given) / "RELEASE.md").read_text()
    assert [phrase for phrase in phrases if phrase not in text] == []


def test_the_curators_words_stand_in_the_pages_and_are_kept(
    drawn: Callable[..., Path], tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml", reason="the reader under test is its own")
    folder, release = drawn("parquet"), tmp_path / "mine.toml"
    release.write_text(RELEASE)
    write_cards(folder, release)
    assert (folder / "release.toml").read_text() == RELEASE and holds(folder)
    entry = yaml.safe_load((folder / "release.yaml").read_text())
    assert entry["basic"] == {
        "name": "Chest phantoms",
        "data_curators": ["St. Elsewhere", "Data trust"],
        "description": entry["basic"]["description"],
        "intended_use": "teaching",
        "data_product_type": "Synthetic data",
        "data_product_region": "Norway",
        "publication_date": "2026-11-26",
        "data_product_sector": "Healthcare",
    }
    stated = read_statement(folder)["guarantee"]
    assert entry["privacy_loss"]["privacy_parameters"] == {
        "epsilon": stated["epsilon"], "delta": stated["delta"]
    }  # fmt: skip
    assert entry["implementation"]["justification"].startswith("Chosen by the board")
    page = (folder / "RELEASE.md").read_text()
    assert "Ten years" in page and "Anyone may read the set." in page
    # The next writing keeps them, and a change to the kept file is seen.
    write_cards(folder)
    assert "Ten years" in (folder / "RELEASE.md").read_text()
    (folder / "release.toml").write_text(RELEASE.replace("Ten", "Two"))
    assert not cards_check(folder).held


@pytest.mark.parametrize("curated", [True, False])
def test_the_registry_entry_has_the_fields_of_the_registry_and_no_others(
    curated: bool, drawn: Callable[..., Path], tmp_path: Path
) -> None:
    yaml = pytest.importorskip("yaml", reason="the reader under test is its own")
    folder, release = drawn("npz"), tmp_path / "mine.toml"
    release.write_text(f'{RELEASE}description = "Drawn chests"\n')
    write_cards(folder, release if curated else None)
    entry = yaml.safe_load((folder / "release.yaml").read_text())
    assert entry.keys() == REGISTRY.keys()
    left_out = {"notes"} if curated else CURATED
    for part, fields in REGISTRY.items():
        assert entry[part].keys() == fields.keys() - left_out, part
        for name, value in entry[part].items():
            kind = fields[name]
            assert value in kind if isinstance(kind, set) else type(value) is kind, name
            if kind is list:
                assert value and all(type(one) is str for one in value), name
    parameters = entry["privacy_loss"]["privacy_parameters"]
    assert parameters.keys() == {"epsilon", "delta"}
    assert all(type(value) in (int, float) for value in parameters.values())
    assert entry["dp_variant"]["variant_name"] == "Approximate DP"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('curator = "x"', "unknown setting 'curator': the nearest is 'curators'"),
        ('curators = "x"', "'curators' must be"),
        ('publication_date = "soon"', "publication_date must be a date"),
        ('publication_date = "2026-13-01"', "publication_date must be a date"),
        ("name = 3", "'name' must be"),
        ('region = " "', "region must be a text"),
        ('region = "a\\u001b[2Jb"', "control characters"),
        ("name =", "release.toml"),
    ],
    ids=["near", "list", "date", "month", "number", "empty", "escape", "no toml"],
)
def test_a_release_file_that_is_not_understood_changes_nothing(
    text: str, message: str, drawn: Callable[..., Path], tmp_path: Path
) -> None:
    folder, release = drawn("npz"), tmp_path / "release.toml"
    before = bytes_of(folder)
    release.write_text(text)
    ran = dpgen("card", folder, "--release", release)
    assert ran.exit_code != 0 and message in ran.output
    assert bytes_of(folder) == before


def test_a_kill_between_two_pages_is_seen_and_mended(
    drawn: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dpgen.release import cards

    folder, release = drawn("npz"), tmp_path / "release.toml"
    release.write_text(RELEASE)
    real, written = cards.replace_durably, []

    def dying(path: Path, content: bytes) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path.name)
        real(path, content)

    monkeypatch.setattr(cards, "replace_durably", dying)
    with pytest.raises(KeyboardInterrupt):
        write_cards(folder, release)
    assert written == ["release.toml", "README.md"]
    assert not cards_check(folder).held
    monkeypatch.undo()
    write_cards(folder)
    assert holds(folder) and "Ten years" in (folder / "RELEASE.md").read_text()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_croissant_is_valid_and_its_records_are_the_images(
    layout: str, drawn: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="of the extra `dev`")
    folder, release = drawn(layout), tmp_path / "release.toml"
    release.write_text(RELEASE)
    write_cards(folder, release)
    with caplog.at_level(logging.WARNING):
        described = mlcroissant.Dataset(str(folder / "croissant.json"))
    issues = described.metadata.ctx.issues
    assert not issues.errors
    assert not [one for one in issues.warnings if "citeAs" not in one]
    assert json.loads((folder / "croissant.json").read_text())["conformsTo"][0].endswith("/1.1")
    assert [row["classes/name"] for row in described.records("classes")] == list(NAMES)
    if layout in ("npz", "webdataset"):  # files and their hashes, no records
        files = {one.name: one.sha256 for one in described.metadata.distribution}
        stated = {path.name: sha256_file(path) for path in folder.glob("*0*")}
        assert len(stated) == 3 and stated.items() <= files.items()
        return
    rows = list(described.records("images"))
    assert len(rows) == N_IMAGES
    if layout == "folder":
        assert {row["images/label"].decode() for row in rows} == set(NAMES[:-1])
    if layout == "parquet":
        assert {row["images/label"] for row in rows} == set(range(len(NAMES) - 1))


def test_a_mixture_has_pages_of_the_whole(drawn: Callable[..., Path], tmp_path: Path) -> None:
    one = drawn("npz", name="one")
    # The same run again: another set of it.
    two = tmp_path / "two"
    one.rename(two)
    reseal(two, lambda statement: statement["artifact"].update(created="2026-01-01T00:00:00+00:00"))
    (two / "README.md").unlink()
    one = tmp_path / "one"
    one.mkdir()
    for name, data in bytes_of(two).items():
        (one / name).write_bytes(data)
    reseal(one, lambda statement: statement["artifact"].update(created="2026-01-02T00:00:00+00:00"))
    mix([one, two], tmp_path / "mixed", layout="parquet")
    assert holds(tmp_path / "mixed")
    text = (tmp_path / "mixed" / "RELEASE.md").read_text()
    assert read_statement(tmp_path / "mixed")["statement"] in text and "46 synthetic" in text


def test_a_class_named_like_a_page_is_refused_as_a_folder(drawn: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="class_names must not be names of files of a set"):
        drawn("folder", names=("a", "readme.MD"))


def test_of_data_sets_that_share_no_record_the_attacker_takes_the_one_that_gives_most(
    drawn: Callable[..., Path]
) -> None:
    folder = drawn("npz")
    statement = read_statement(folder)
    (row,) = statement["accounting"]["events"]
    found = []
    for multipliers in ((2.0,), (0.5,), (2.0, 0.5), (0.5, 2.0)):
        each = [{"events": [{**row, "noise_multiplier": m}]} for m in multipliers]
        content = {**statement, "accounting": {"data_sets": each}}
        found.append(Subject(folder, Certificate(content), ReleaseFile()).attack())
    small, large, one, other = found
    assert one == other == large != small
    assert large.right > small.right and large.found[0.001] > small.found[0.001]

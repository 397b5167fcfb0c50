"""A run that starts from public images: what it learns from them, what it says of them, and that no
private record is among them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from dpgen.auditing import audit, replay
from dpgen.auditing.stand_ins import neighbours
from dpgen.data.opening import open_images
from dpgen.data.private import PrivateDataset
from dpgen.data.public import open_public
from dpgen.exports.export import export
from dpgen.images.images import Images, to_float
from dpgen.images.public_images import PublicImages
from dpgen.methods.loading import load
from dpgen.methods.pge import PGE, PGESettings
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.statements.certificate import sha256_file
from dpgen.privacy.statements.public_start import start_told
from dpgen.privacy.verification.configuration import _same_start
from dpgen.privacy.verification.verify import verify
from dpgen.release.cards import cards_of, write_cards
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware
from dpgen.stages import teacher
from dpgen.storage.canonical import digest
from dpgen.synthetic.mix import mix
from dpgen.synthetic.synthesise import synthesise
from dpgen.training import public_start
from dpgen.training.public_settings import PublicSettings

pytestmark = pytest.mark.usefixtures(
    "one_thread", "home", "remembering_accountant", "small_network"
)
CPU = Hardware("cpu")


class Reached(Exception):
    """The first private step was about to be taken."""


def images_of(pixels: np.ndarray, names: tuple[str, ...] = ("b", "elsewhere")) -> Images:
    labels = torch.arange(len(pixels)) % len(names)
    return Images(to_float(torch.from_numpy(pixels)[:, None]), labels, names)


@pytest.fixture
def public() -> Images:
    """Twelve images, half of them of a class that the private ones have, too."""
    return images_of(np.random.default_rng(5).integers(0, 256, (12, 8, 8), dtype=np.uint8))


@pytest.fixture
def fit(
    untrained: Callable[..., Any], dataset: Callable[..., PrivateDataset], records: Any  # noqa: ANN401
) -> Callable[..., Any]:
    def run(
        folder: Path, public: Any, method: str = "dpdm", source: Any = None, **settings: Any  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        own = {"n_steps": 3, "batch_size": 4}
        made = untrained(method, preset="tiny", public=PublicSettings(**own | settings))
        data = dataset(source or records)
        return made.fit(data, out=folder, seed=1, hardware=CPU, public=public)

    return run


def rewritten(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a statement and its hash, as a forger would."""
    statement = json.loads((run / "privacy.json").read_text())
    change(statement)
    del statement["sha256"]
    statement["sha256"] = digest(statement)
    text = json.dumps(statement, indent=2, ensure_ascii=False) + "\n"
    (run / "privacy.json").write_text(text)


def failed(run: Path) -> list[str]:
    return [check.name for check in verify(run) if check.failed]


def test_public_images_stand_in_certificate_configuration_and_every_page(
    fit: Callable[..., Any], public: Images, tmp_path: Path
) -> None:
    run, drawn = tmp_path / "run", tmp_path / "set"
    fitted = fit(run, public)
    told = fitted.privacy["public_start"]
    named = {"name": "images in memory", "n_images": 12, "n_steps": 3}
    assert {key: told["images"][key] for key in named} == named
    assert told["images"].keys() == {*named, "sha256"}  # no labels: none were learned
    assert "Nobody checked that they are public" in told["statement"]
    assert told["statement"] in fitted.document.sentences
    config = json.loads((run / "config.json").read_text())
    assert config["public_start"] == {"images": told["images"]}
    assert failed(run) == []
    assert load(run).settings.teacher.public.n_steps == 3
    synthesise(run, 6, drawn, seed=0)
    assert failed(drawn) == []
    write_cards(drawn)
    pages = cards_of(drawn)
    for page in ("README.md", "RELEASE.md"):
        assert told["statement"].encode() in pages[page]
    export(run, tmp_path / "parts", target="diffusers")
    assert told["statement"] in (tmp_path / "parts" / "README.md").read_text()
    with safe_open(tmp_path / "parts" / "prior.safetensors", "pt") as weights:
        assert weights.metadata()["public_start"] == told["statement"]
    # Whoever says less, or another thing, of what was public is found out.
    other = start_told({"images": {**told["images"], "n_images": 13}})
    for change in (
        lambda statement: statement.update(public_start=other),
        lambda statement: statement.pop("public_start"),
        lambda statement: statement["public_start"].update(statement="It is public."),
        lambda statement: statement["public_start"]["images"].update(n_images=13),
        lambda statement: statement["public_start"].update(weights={}),
        lambda statement: statement["data_access"].pop(),
    ):
        kept = (run / "privacy.json").read_bytes()
        rewritten(run, change)
        try:
            assert failed(run)
        except ValueError:  # it is not even what a run writes
            pass
        (run / "privacy.json").write_bytes(kept)
    # A set has no configuration beside it: the words themselves are made again.
    rewritten(drawn, lambda statement: statement["public_start"].update(statement="All public."))
    assert failed(drawn) == ["public start"]


def test_private_stages_begin_at_the_public_weights_whatever_the_records(
    fit: Callable[..., Any],
    public: Images,
    records: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[dict[str, torch.Tensor]] = []

    def trained(denoiser: Any, *given: Any, **named: Any) -> None:  # noqa: ANN401
        begun.append({k: v.clone() for k, v in denoiser.unet.state_dict().items()})
        raise Reached

    monkeypatch.setattr(teacher.denoising, "train_teacher", trained)
    bright = type(records)(255 - records.pixels // 8, [2] * 30, records.class_names)
    for name, source in (("one", records), ("other", bright)):
        with pytest.raises(Reached):
            fit(tmp_path / name, public, source=source)
    one, other = begun
    assert all(torch.equal(one[name], other[name]) for name in one)
    rows = one["class_embedding.weight"]
    assert torch.equal(rows[:3], rows[3].expand(3, -1))  # as what the null class has learned
    assert one["conv_out.weight"].abs().max() > 0  # and it is not the untrained network


def test_an_interrupted_training_on_public_images_goes_on_to_the_same_weights(
    fit: Callable[..., Any], public: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)
    monkeypatch.setattr(Checkpoints, "due", lambda states: True)
    whole = fit(tmp_path / "whole", public)
    with monkeypatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(tmp_path / "elsewhere"))
        taken: list[int] = []
        plain = public_start.denoising_loss

        def interrupted(*given: Any) -> torch.Tensor:  # noqa: ANN401
            taken.append(1)
            if len(taken) == 3:
                raise KeyboardInterrupt
            return plain(*given)

        patch.setattr(public_start, "denoising_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "cut", public)
        cut = fit(tmp_path / "cut", public)
    assert len(taken) == 4  # two steps were saved; the third was taken again
    for name in ("model.safetensors", "config.json"):
        assert sha256_file(tmp_path / "cut" / name) == sha256_file(tmp_path / "whole" / name)
    assert cut.privacy["public_start"] == whole.privacy["public_start"]
    # A run is resumed, or found finished, with its own public images only.
    other = Images(-public.pixels, public.labels, public.class_names)
    with pytest.raises(ValueError, match="finished run of another configuration"):
        fit(tmp_path / "whole", other)
    with pytest.raises(ValueError, match="finished run of another configuration"):
        fit(tmp_path / "whole", public, n_steps=4)
    fit(tmp_path / "whole", public)


def test_the_state_of_a_training_on_other_public_images_is_no_start(
    fit: Callable[..., Any], public: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate would name images that the weights have not seen."""
    other = Images(-public.pixels, public.labels, public.class_names)

    def stop(*given: Any) -> None:  # noqa: ANN401
        raise Reached

    with monkeypatch.context() as patch:
        patch.setattr(PrivateDataset, "begin", stop)
        for name, images in (("one", public), ("other", other)):
            with pytest.raises(Reached):
                fit(tmp_path / name, images)
    places = (tmp_path / name / "checkpoint/state" for name in ("one", "other"))
    states = [place / "public start.safetensors" for place in places]
    kept = states[1].read_bytes()
    shutil.copy(*states)
    with pytest.raises(ValueError, match="'public start' .* belongs to another run"):
        fit(tmp_path / "other", other)
    states[1].write_bytes(kept)
    assert failed(fit(tmp_path / "other", other).folder) == []


def test_public_images_that_are_private_records_are_refused_before_anything_is_charged(
    fit: Callable[..., Any],
    dataset: Callable[..., PrivateDataset],
    untrained: Callable[..., Any],
    records: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    fresh = np.random.default_rng(5).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    mixed = images_of(np.concatenate([fresh, records.pixels[7:9]]))
    with pytest.raises(ValueError, match="2 different images of 'images in memory' are private"):
        fit(tmp_path / "run", mixed)
    # Nor those that the crop to the shape of the private ones makes into records.
    padded = images_of(np.pad(records.pixels[7:10], ((0, 0), (0, 0), (2, 2))))
    with pytest.raises(ValueError, match="3 different images of 'images in memory' are private"):
        fit(tmp_path / "run", padded)
    assert not (tmp_path / "run").exists()
    assert not list((tmp_path / "home").rglob("*.jsonl"))
    # Of another data set of the installation, too: what was charged there is private.
    first = untrained("dpdm", preset="tiny")
    first.fit(dataset(records), out=tmp_path / "first", seed=1, hardware=CPU)
    (path,) = (tmp_path / "home/ledgers").glob("*.jsonl")
    rng = np.random.default_rng(6)
    others = type(records)(rng.integers(0, 256, (30, 8, 8), np.uint8), [0] * 30, ("a", "b", "c"))
    with pytest.raises(ValueError, match="no private records .*: 2 different images are in the"):
        fit(tmp_path / "second", mixed, source=others)
    fit(tmp_path / "third", images_of(fresh), source=others)
    # And a record that has left the data since: the ledger of the data set still knows it.
    shrunk = PrivateDataset(records.but_last(), facts=dataset(records).facts, ledger=path)
    left = images_of(np.concatenate([fresh, records.pixels[-1:]]))
    with pytest.raises(ValueError, match="no private records .*: 1 different images are in the"):
        untrained("dpdm", preset="tiny").fit(shrunk, out=tmp_path / "fifth", public=left)
    with pytest.raises(ValueError, match="what was opened as private is not read as public"):
        fit(tmp_path / "fourth", dataset(others))


def test_images_that_were_public_once_are_never_private_again(
    fit: Callable[..., Any], records: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: ANN401
) -> None:  # fmt: skip
    """A statement would say that nobody had spent more on them than its own run."""
    rng = np.random.default_rng(6)
    others = type(records)(rng.integers(0, 256, (30, 8, 8), np.uint8), [0] * 30, ("a", "b", "c"))
    shown = images_of(records.pixels[3:6])
    with monkeypatch.context() as patch:

        def stop(*given: Any) -> None:  # noqa: ANN401
            raise Reached

        patch.setattr("dpgen.methods.dpdm.DPDM.begun_on", staticmethod(stop))
        for _ in range(2):
            with pytest.raises(Reached):
                fit(tmp_path / "shown", shown, source=others)
            noted = (tmp_path / "home/public.marks").read_bytes()
    before = sorted((tmp_path / "home").rglob("*.jsonl"))
    with pytest.raises(ValueError, match="3 different images of these data were declared public"):
        fit(tmp_path / "late", images_of(rng.integers(0, 256, (4, 8, 8), np.uint8)))
    assert sorted((tmp_path / "home").rglob("*.jsonl")) == before
    assert not (tmp_path / "late").exists()
    fit(tmp_path / "shown", shown, source=others)
    assert (tmp_path / "home/public.marks").read_bytes() == noted, "noted once"


def test_labels_of_public_images_count_where_their_classes_have_the_name_of_a_private_one(
    fit: Callable[..., Any], public: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = public_start.denoising_loss

    def watched(*given: Any) -> torch.Tensor:  # noqa: ANN401
        seen.extend(given[2].tolist())
        return plain(*given)

    monkeypatch.setattr(public_start, "denoising_loss", watched)
    fitted = fit(tmp_path / "run", public, labels="names")
    assert set(seen) == {1, 3}  # "b", and of no class
    told = fitted.privacy["public_start"]
    assert told["images"]["classes"]["names"] == ["b"]
    assert "learned as that class: b (SHA-256 of the labels" in told["statement"]
    assert failed(tmp_path / "run") == []
    # Whoever does not say that labels were learned contradicts the settings.
    config = json.loads((tmp_path / "run/config.json").read_text())
    less = {name: value for name, value in told["images"].items() if name != "classes"}
    config["public_start"] = {"images": less}
    said = {"public_start": start_told({"images": less})}
    assert not _same_start(config, said) and _same_start(
        json.loads((tmp_path / "run/config.json").read_text()), {"public_start": told}
    )


def test_a_mode_without_such_a_network_and_settings_without_images_are_refused(
    untrained: Callable[..., Any],
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
    public: Images,
    tmp_path: Path,
) -> None:
    sketch = PGE(budget=Budget(0.3, 1e-3), settings=PGESettings(mode="sketch"))
    with pytest.raises(ValueError, match="mode 'sketch' of PGE must start without public images"):
        sketch.fit(dataset(records), out=tmp_path / "run", public=public)
    lonely = untrained("dpdm", public=PublicSettings(n_steps=2))
    with pytest.raises(ValueError, match="and none were given: name them with public=DATA"):
        lonely.fit(dataset(records), out=tmp_path / "run")
    wide = Images(public.pixels.repeat(1, 1, 1, 2), public.labels, public.class_names)
    with pytest.raises(ValueError, match="no square"):
        facts = replace(dataset(records).facts, shape=(1, 8, 12))
        open_public(wide, facts)
    assert open_public(wide, dataset(records).facts).source.shape == (1, 8, 8)
    for name, value in (("n_steps", 0), ("learning_rate", 0.0), ("ema_decay", 1.0)):
        with pytest.raises(ValueError, match=rf"public\.{name} must"):
            PublicSettings(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"public\.labels must be one of none, names"):
        PublicSettings(labels="all")


def test_an_audit_begins_every_world_at_the_same_public_stand_ins(
    fit: Callable[..., Any], public: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = fit(tmp_path / "run", public)
    base, others = neighbours(fitted.facts, 0)
    one = {"negative": others["negative of another record"]}
    monkeypatch.setattr(replay, "neighbours", lambda facts, seed: (base, one))
    monkeypatch.setattr(audit, "of_stage", lambda *given: [])
    monkeypatch.setattr(audit, "verify", lambda folder: [])
    worlds: list[str] = []
    plain = public_start.start_on_public

    def watched(denoiser: Any, images: PublicImages, *given: Any) -> None:  # noqa: ANN401
        plain(denoiser, images, *given)
        weights = torch.cat([p.flatten() for p in denoiser.parameters()])
        worlds.append(f"{images.sha256} {sha256(weights.detach().numpy().tobytes()).hexdigest()}")

    monkeypatch.setattr(teacher, "start_on_public", watched)
    found = audit.audit(fitted, games=False, hardware=CPU)
    assert found.passed, found.text()
    assert len(worlds) == 2 and len(set(worlds)) == 1
    assert fitted.privacy["public_start"]["images"]["sha256"] not in worlds[0]


def test_a_training_on_public_images_that_fails_costs_nothing_and_changes_nothing(
    fit: Callable[..., Any], public: Images, tmp_path: Path, untrained: Callable[..., Any],
    dataset: Callable[..., PrivateDataset], records: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    with pytest.raises(ValueError, match="not finite: nothing was charged. Take a learning rate"):
        fit(tmp_path / "run", public, learning_rate=1e30)
    assert not list((tmp_path / "home").rglob("*.jsonl"))
    assert fit(tmp_path / "run", public).certified  # in the same folder
    # A generator keeps its settings when its public images are refused, and fits without them.
    kept = untrained("dpdm", preset="tiny")
    before = kept.settings
    with pytest.raises(ValueError, match="are private records"):
        own = images_of(records.pixels[:3])
        kept.fit(dataset(records), out=tmp_path / "refused", public=own)
    assert kept.settings == before


def test_a_plain_run_says_nothing_of_public_images_and_is_read_by_versions_that_know_none(
    untrained: Callable[..., Any], dataset: Callable[..., PrivateDataset],
    records: Any, tmp_path: Path,  # noqa: ANN401
) -> None:  # fmt: skip
    plain = untrained("dpdm", preset="tiny").fit(dataset(records), out=tmp_path / "run", seed=1)
    for name in ("config.json", "privacy.json"):
        assert "public_start" not in json.loads((tmp_path / "run" / name).read_text())
    settings = json.loads((tmp_path / "run/config.json").read_text())["settings"]
    assert "public" not in settings["teacher"]
    assert [row["what"] for row in plain.privacy["data_access"]][1:] == [
        "what ledgers that share a record with this data set have spent"
    ]
    again = untrained("dpdm", preset="tiny").fit(dataset(records), out=tmp_path / "run", seed=1)
    assert again.privacy == plain.privacy


def test_pictures_that_a_count_of_persons_leaves_out_are_not_public(
    untrained: Callable[..., Any], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(8).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    whole = images_of(pixels, ("a", "b"))
    with pytest.warns(UserWarning, match="20 of 40 records are not used"):
        data = open_images(whole, unit=[str(i // 4) for i in range(40)], max_records_per_unit=2)
    used = {one.tobytes() for one, _ in data._source.raw_records()}
    left_out = np.stack([one for one in pixels if one.tobytes() not in used])
    made = untrained("dpdm", preset="tiny", public=PublicSettings(n_steps=2, batch_size=4))
    with pytest.raises(ValueError, match="20 different images .* are private records"):
        made.fit(data, out=tmp_path / "run", public=images_of(left_out))


def test_sets_of_such_a_run_are_not_mixed(
    fit: Callable[..., Any], public: Images, tmp_path: Path
) -> None:
    fit(tmp_path / "run", public)
    for seed in (0, 1):
        synthesise(tmp_path / "run", 6, tmp_path / f"set{seed}", seed=seed)
    with pytest.raises(ValueError, match="learned from public images are not mixed"):
        mix([tmp_path / "set0", tmp_path / "set1"], tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()


def test_a_set_that_was_drawn_from_a_model_of_private_records_is_not_public(
    fit: Callable[..., Any], public: Images, tmp_path: Path, dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """What it says itself, certificate or notice, packed or not: no guarantee here would cover it.
    """
    drawn, facts = tmp_path / "set", dataset(records).facts
    fit(tmp_path / "run", public)
    synthesise(tmp_path / "run", 6, drawn, seed=0)
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path, "set"))
    for location in (drawn, drawn / facts.class_names[0], archive):
        with pytest.raises(ValueError, match="must depend on no private records, .*statement"):
            open_public(location, facts)
    (drawn / "privacy.json").rename(drawn / "notice.json")
    with pytest.raises(ValueError, match="must depend on no private records, .*notice"):
        open_public(drawn, facts)

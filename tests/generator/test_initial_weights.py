"""A run that begins with weights of others: which it takes, what it says of them, and that none of
them was learned from its own records unsaid.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dpgen.auditing import audit, replay
from dpgen.auditing.stand_ins import neighbours
from dpgen.data.private import PrivateDataset
from dpgen.exports.export import export
from dpgen.generator.public_start import settings_of
from dpgen.images.images import PublicFacts
from dpgen.methods.loading import load
from dpgen.methods.pge import PGE, PGESettings
from dpgen.networks.architecture import Architecture, unet_config
from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.networks.variant import Variant
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.statements.certificate import CertificateError, sha256_file
from dpgen.privacy.statements.public_start import (
    data_sets_of,
    run_told,
    start_told,
    weights_told,
)
from dpgen.privacy.verification.verify import verify
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware
from dpgen.runs.initial_weights import InitialWeights
from dpgen.runs.weights_folder import weights_of
from dpgen.stages import teacher
from dpgen.storage.canonical import digest
from dpgen.training.public_settings import PublicSettings

pytestmark = pytest.mark.usefixtures(
    "one_thread", "home", "remembering_accountant", "small_network"
)
CPU = Hardware("cpu")
SHAPE = (1, 8, 8)


class Reached(Exception):
    """The first private step was about to be taken."""


@pytest.fixture
def others(records: Any) -> Any:  # noqa: ANN401
    """Thirty records that are none of `records`; the first two of their classes are the same."""
    pixels = np.random.default_rng(7).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    return type(records)(pixels, [i % 3 for i in range(30)], ("a", "b", "c"))


@pytest.fixture
def fit(untrained: Callable[..., Any], dataset: Callable[..., PrivateDataset]) -> Any:  # noqa: ANN401
    def run(
        folder: Path, source: Any, init: Any = None, method: str = "dpdm", **settings: Any  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        made = untrained(method, preset="tiny", **settings)
        return made.fit(dataset(source), out=folder, seed=1, hardware=CPU, init=init)

    return run


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Denoiser]:
    """The networks that DP-SGD was about to train; no run goes on from there."""
    networks: list[Denoiser] = []

    def stop(denoiser: Denoiser, *given: Any, **named: Any) -> None:  # noqa: ANN401
        networks.append(denoiser)
        raise Reached

    monkeypatch.setattr(teacher.denoising, "train_teacher", stop)
    return networks


DDPM = {"_class_name": "DDPMScheduler"}
CONFIG = DenoiserConfig(SHAPE, 1, (4, 8), 1, (1,), 4)


def published(folder: Path, scheduler: dict[str, Any] | None = None, **changes: Any) -> Path:  # noqa: ANN401
    """A pipeline folder of diffusers with a network of random weights and no classes."""
    unet: Any = Denoiser(CONFIG).unet
    stock = dict(unet.config) | {"num_class_embeds": None} | changes
    with torch.random.fork_rng():
        torch.manual_seed(3)
        unet = type(unet)(**{k: v for k, v in stock.items() if not k.startswith("_")})
    unet.save_pretrained(folder / "unet")
    edm = {"_class_name": "EDMEulerScheduler", "sigma_data": 0.5}
    held = edm if scheduler is None else scheduler
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(held))
    return folder


def rewritten(run: Path, change: Callable[[dict[str, Any]], Any], prefix: str = "") -> None:
    """Changes a statement and its hash, as a forger would."""
    path = run / f"{prefix}privacy.json"
    statement = json.loads(path.read_text())
    change(statement)
    del statement["sha256"]
    statement["sha256"] = digest(statement)
    path.write_text(json.dumps(statement, indent=2, ensure_ascii=False) + "\n")


def failed(run: Path) -> list[str]:
    return [check.name for check in verify(run) if check.failed]


def test_a_run_begins_with_a_network_of_diffusers_that_its_certificate_names(
    fit: Callable[..., Any], records: Any, tmp_path: Path  # noqa: ANN401
) -> None:  # fmt: skip
    folder, run = published(tmp_path / "hub"), tmp_path / "run"
    fitted = fit(run, records, folder, warm_start_share=None)
    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    told = fitted.privacy["public_start"]
    assert told["weights"] == {"name": "hub", "sha256": sha256_file(weights), "classes": []}
    assert "Nobody checked that they are public" in told["statement"]
    assert told["statement"] in fitted.document.sentences
    assert [row["what"] for row in fitted.privacy["data_access"]][1:] == [
        "what ledgers that share a record with this data set have spent"
    ]  # records were compared with no images
    own = fitted.networks["model"].config
    assert Architecture.of(own) == Architecture.of(CONFIG) and own.n_classes == 3
    assert fitted.settings.teacher.warm_start_share == 0  # the weights correct no Gaussian
    assert failed(run) == []
    other = start_told({"weights": {**told["weights"], "sha256": "0" * 64}})
    images = {"name": "x", "n_images": 1, "sha256": "0" * 64, "n_steps": 1}
    for change in (
        lambda statement: statement.update(public_start=other),
        lambda statement: statement.pop("public_start"),
        lambda statement: statement.update(public_start=start_told({"images": images})),
    ):
        kept = (run / "privacy.json").read_bytes()
        rewritten(run, change)
        assert set(failed(run)) & {"configuration", "public start"}
        (run / "privacy.json").write_bytes(kept)
    with pytest.raises(CertificateError):
        start_told({"weights": {**told["weights"], "run": {}}})


def test_a_network_of_ddpm_is_taken_over_with_the_numbers_inside_its_blocks(
    fit: Callable[..., Any], records: Any, tmp_path: Path  # noqa: ANN401
) -> None:  # fmt: skip
    """As many published ones are, in files whose layers of attention have their earlier names."""
    inside = {
        "flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0, "norm_eps": 1e-6,
        "attention_head_dim": None,
    }  # fmt: skip
    levels = {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02, "clip_sample": True}
    folder = published(tmp_path / "hub", {**DDPM, **levels}, **inside)
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    held = load_file(path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    earlier = dict(held)
    for new, name in old.items():
        earlier = {k.replace(f".{new}.", f".{name}."): t for k, t in earlier.items()}
    assert earlier.keys() != held.keys()
    save_file(earlier, path)
    fitted = fit(tmp_path / "run", records, folder, warm_start_share=None, adapters=2)
    variant = fitted.networks["model"].config.variant
    assert variant == Variant("epsilon", **{**inside, "attention_head_dim": 0})
    own = fitted.networks["model"].unet.state_dict()
    assert torch.equal(own["conv_in.weight"], held["conv_in.weight"])
    assert failed(tmp_path / "run") == []
    assert torch.equal(load(tmp_path / "run").sample(2, seed=0).pixels,
                       fitted.sample(2, seed=0).pixels)  # fmt: skip
    with pytest.raises(ValueError, match="puts out epsilon, which the code of an export"):
        export(tmp_path / "run", tmp_path / "parts", target="diffusers")


def test_private_stages_begin_at_exactly_these_weights_and_labels_change_nothing(
    fit: Callable[..., Any], begun: list[Denoiser], records: Any, tmp_path: Path  # noqa: ANN401
) -> None:  # fmt: skip
    folder = published(tmp_path / "hub")
    with pytest.raises(Reached):
        fit(tmp_path / "run", records, folder, warm_start_share=None)
    held = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    own = begun[0].unet.state_dict()
    assert own.keys() == {*held, "class_embedding.weight"}
    assert all(torch.equal(own[name], tensor) for name, tensor in held.items())
    rows = own["class_embedding.weight"]
    assert rows.shape == (4, 16) and not rows.any()


def test_a_run_begins_with_the_weights_of_another_run_and_of_its_export(
    fit: Callable[..., Any], records: Any, others: Any, tmp_path: Path,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    parent, parts = tmp_path / "parent", tmp_path / "parts"
    first = fit(parent, others)
    export(parent, parts, target="diffusers")
    fitted = fit(tmp_path / "run", records, parent)
    told = fitted.privacy["public_start"]["weights"]
    assert told["sha256"] == sha256_file(parent / "model.safetensors")
    assert told["classes"] == ["a", "b", "c"]
    assert told["run"]["sha256"] == first.privacy["sha256"] and not told["run"]["exported"]
    assert told["run"]["data_set"] == first.privacy["data_set"]["name"]
    said = fitted.privacy["public_start"]["statement"]
    assert f"covered by its own certificate (SHA-256 {first.privacy['sha256']})" in said
    assert f"states ({first.privacy['guarantee']['epsilon']:g}, 0.001)-differential" in said
    assert failed(tmp_path / "run") == []
    begun: list[Denoiser] = []

    def stop(denoiser: Denoiser, *given: Any, **named: Any) -> None:  # noqa: ANN401
        begun.append(denoiser)
        raise Reached

    monkeypatch.setattr(teacher.denoising, "train_teacher", stop)
    for n, place in enumerate((parent, parts, parts / "unet"), 1):
        fresh = type(records)(records.pixels + n, records.labels, records.class_names)
        with pytest.raises(Reached):
            fit(tmp_path / f"from{n}", fresh, place)
        for name, tensor in first.networks["model"].unet.state_dict().items():
            assert torch.equal(begun[-1].unet.state_dict()[name], tensor)
    assert weights_of(parts, SHAPE).exported
    # An export that lost its certificate, or got another, is no public network.
    (parts / "run-privacy.json").rename(tmp_path / "run-privacy.json")
    with pytest.raises(CertificateError, match=r"run-privacy\.json beside it is missing"):
        fit(tmp_path / "late", records, parts)
    shutil.copy(tmp_path / "run/privacy.json", parts / "run-privacy.json")
    with pytest.raises(CertificateError, match="not its certificate"):
        fit(tmp_path / "late", records, parts)
    # Nor is one that diffusers has saved again, which forgets the certificate.
    again = tmp_path / "again"
    type(first.networks["model"].unet).from_pretrained(parts / "unet").save_pretrained(
        again / "unet"
    )
    shutil.copy(parts / "recipe.json", again)
    for _ in range(2):  # without any certificate, and with one that does not name these weights
        with pytest.raises(CertificateError, match=r"exported from a run.*name the whole folder"):
            fit(tmp_path / "late", records, again)
        shutil.copy(tmp_path / "run-privacy.json", again)
    # Nor one whose certificate states another epsilon than its own stages come to.
    rewritten(parts, lambda statement: statement["guarantee"].update(epsilon=0.01), "run-")
    path = parts / "unet/diffusion_pytorch_model.safetensors"
    sealed = json.loads((parts / "run-privacy.json").read_text())["sha256"]
    save_file(load_file(path), path, metadata={"certificate_sha256": sealed})
    with pytest.raises(CertificateError, match="does not hold .epsilon from the events"):
        fit(tmp_path / "late", records, parts)
    # Nor is a run whose certificate does not hold.
    rewritten(parent, lambda statement: statement["guarantee"].update(epsilon=0.01))
    with pytest.raises(CertificateError, match="does not hold"):
        fit(tmp_path / "late", records, parent)
    assert not (tmp_path / "late").exists()


def test_adapters_leave_all_other_weights_as_they_were_also_after_a_kill(
    fit: Callable[..., Any], records: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: ANN401
) -> None:  # fmt: skip
    folder, chosen = published(tmp_path / "hub"), {"warm_start_share": None, "adapters": 2}
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)
    monkeypatch.setattr(Checkpoints, "due", lambda states: True)
    whole = fit(tmp_path / "whole", records, folder, **chosen)
    held = load_file(folder / "unet/diffusion_pytorch_model.safetensors")
    own = whole.networks["model"].unet.state_dict()
    moved = {name for name, tensor in held.items() if not torch.equal(own[name], tensor)}
    ends = {name.rpartition("attentions.")[2].lstrip("01.") for name in moved}
    layers = {f"{name}.weight" for name in ("to_q", "to_k", "to_v", "to_out.0")}
    assert ends == {*layers, "conv_out.weight", "conv_out.bias"}
    assert own["class_embedding.weight"].any()  # which began at zero
    config = json.loads((tmp_path / "whole/config.json").read_text())
    assert config["settings"]["teacher"]["adapters"] == 2
    with monkeypatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(tmp_path / "elsewhere"))
        taken: list[int] = []
        plain = PrivateDataset.save_state

        def interrupted(*given: Any, **named: Any) -> None:  # noqa: ANN401
            plain(*given, **named)
            taken.append(1)
            if len(taken) == 2:
                raise KeyboardInterrupt

        patch.setattr(PrivateDataset, "save_state", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "cut", records, folder, **chosen)
        fit(tmp_path / "cut", records, folder, **chosen)
    assert sha256_file(tmp_path / "cut/model.safetensors") == sha256_file(
        tmp_path / "whole/model.safetensors"
    )


def test_weights_that_were_learned_from_the_same_records_are_refused(
    fit: Callable[..., Any], untrained: Callable[..., Any], dataset: Callable[..., PrivateDataset],
    records: Any, others: Any, tmp_path: Path,  # noqa: ANN401
) -> None:  # fmt: skip
    """The model would depend on them through both runs, whatever stands between them."""
    first, second, parts = (tmp_path / name for name in ("first", "second", "parts"))
    fit(first, records)
    export(first, parts, target="diffusers")
    fit(second, others, first)
    # What a third run would say of the second names the first as well.
    told = run_told(json.loads((second / "privacy.json").read_text()), exported=False)
    start = start_told({"weights": weights_told("second", "0" * 64, [], told)})
    names = [load(run).privacy["data_set"]["name"] for run in (second, first)]
    assert data_sets_of(start) == names
    assert json.loads((first / "privacy.json").read_text())["sha256"] in start["statement"]
    ledgers = {p: p.read_bytes() for p in (tmp_path / "home").rglob("*.jsonl")}
    for place in (first, parts, second):
        with pytest.raises(ValueError, match="learned from other records"):
            fit(tmp_path / "late", records, place)
    # Of a data set that shares some of them, too, and however the run is charged.
    mixed = np.concatenate([others.pixels[:20], records.pixels[:10]])
    shared = type(records)(255 - mixed, records.labels, records.class_names)
    shared.pixels[20:] = records.pixels[:10]
    data = dataset(shared)
    data._overlap = "separate"
    with pytest.raises(ValueError, match="learned from some of these records"):
        untrained("dpdm", preset="tiny").fit(data, out=tmp_path / "late", seed=1, init=first)
    assert {p: p.read_bytes() for p in (tmp_path / "home").rglob("*.jsonl")} == ledgers
    assert not (tmp_path / "late").exists()
    # Whoever forges a statement into saying so is found out.
    name = json.loads((second / "privacy.json").read_text())["data_set"]["name"]

    def claim(statement: dict[str, Any]) -> None:
        start = statement["public_start"]
        start["weights"]["run"]["data_set"] = name
        statement["public_start"] = start_told(start)

    rewritten(second, claim)
    assert "public start" in failed(second)


def test_public_data_of_the_same_facts_are_the_same_records(
    fit: Callable[..., Any], untrained: Callable[..., Any], others: Any, tmp_path: Path,  # noqa: ANN401
    records: Any,  # noqa: ANN401
) -> None:  # fmt: skip
    """Their ledgers lie in run folders, and know nothing of each other."""
    facts = PublicFacts(SHAPE, ("a", "b", "c"), 30, origin="stated")

    def begin(folder: str, source: Any, *, public: bool = True, **start: Any) -> Any:  # noqa: ANN401
        data = PrivateDataset(source, facts=facts, public=public)
        return untrained("dpdm", preset="tiny").fit(data, out=tmp_path / folder, seed=1, **start)

    begin("first", records)
    begin("private", records, public=False)
    for source, public, start in (
        (others, True, "first"), (records, False, "first"), (records, True, "private"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="from data of the same size and classes"):
            begin("late", source, public=public, init=tmp_path / start)


def test_a_run_is_resumed_with_its_own_weights_only(
    fit: Callable[..., Any], records: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: ANN401
) -> None:  # fmt: skip
    folder, run = published(tmp_path / "hub"), tmp_path / "run"
    with monkeypatch.context() as patch:

        def cut(*given: Any, **named: Any) -> None:  # noqa: ANN401
            raise KeyboardInterrupt

        patch.setattr(teacher.denoising, "train_teacher", cut)
        with pytest.raises(KeyboardInterrupt):
            fit(run, records, folder, warm_start_share=None)
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    kept = path.read_bytes()
    tensors = load_file(path)
    save_file({**tensors, "conv_out.bias": tensors["conv_out.bias"] + 1}, path)
    with pytest.raises(ValueError, match="of another configuration"):
        fit(run, records, folder, warm_start_share=None)
    with pytest.raises(ValueError, match="of another configuration"):
        fit(run, records, warm_start_share=0)
    path.write_bytes(kept)
    assert failed(fit(run, records, folder, warm_start_share=None).folder) == []
    path.unlink()
    with pytest.raises(ValueError, match="in one file"):
        fit(run, records, folder, warm_start_share=None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"act_fn": "gelu"}, "act_fn must be 'silu', got 'gelu'"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift must be 'default'"),
        ({"downsample_padding": 2}, "downsample_padding must be 0 or 1, got 2"),
        ({"in_channels": 3, "out_channels": 3}, "must have 1 channels"),
        ({"block_out_channels": (4, 4)}, "must have at least the channels of one head"),
        ({"num_class_embeds": 5}, "5 class embeddings and nothing names"),
    ],
)
def test_a_network_that_cannot_be_taken_over_is_refused_by_what_differs(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        weights_of(published(tmp_path / "hub", **change), SHAPE)


def test_what_is_no_network_of_a_run_is_refused(tmp_path: Path) -> None:
    for name, held, words in (
        ("other", {"_class_name": "ScoreSdeVeScheduler"}, "must be one of.*'ScoreSdeVeScheduler'"),
        ("sample", {**DDPM, "prediction_type": "sample"}, "target must be one of edm, epsilon"),
        ("sigmoid", {**DDPM, "beta_schedule": "sigmoid"}, "beta_schedule must be one of linear"),
        ("snr", {**DDPM, "rescale_betas_zero_snr": True}, "neither trained_betas nor"),
        ("betas", {**DDPM, "beta_end": 0.0}, "beta_start and beta_end must rise"),
    ):
        with pytest.raises(ValueError, match=words):
            weights_of(published(tmp_path / name, held), SHAPE)
    folder = published(tmp_path / "hub")
    with pytest.raises(ValueError, match="height and width must be divisible by 2"):
        weights_of(folder, (1, 9, 9))
    path = folder / "unet/diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    for name, value, words in (
        ("conv_out.bias", torch.full((1,), torch.nan), "conv_out.bias is not finite"),
        ("conv_out.bias", torch.zeros(2), r"'conv_out.bias' must be \(1,\), got \(2,\)"),
        ("extra", torch.zeros(2), "'extra' must be None"),
    ):
        save_file({**tensors, name: value}, path)
        with pytest.raises(ValueError, match=words):
            weights_of(folder, SHAPE)
    path.unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match="a pickle .* never is"):
        weights_of(folder, SHAPE)
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(ValueError, match="nothing says how the output"):
        path.write_bytes(b"")
        weights_of(folder, SHAPE)
    with pytest.raises(ValueError, match="it holds neither"):
        weights_of(tmp_path, SHAPE)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        weights_of(tmp_path / "absent", SHAPE)
    (tmp_path / "notice.json").write_text("{}")
    with pytest.raises(ValueError, match="from a run with a notice"):
        weights_of(tmp_path, SHAPE)
    with pytest.raises(ValueError, match="its blocks must be DownBlock2D"):
        unet_config({"down_block_types": ["X"], "block_out_channels": [4]}, SHAPE, "off")


def test_settings_that_do_not_fit_the_weights_and_two_starts_are_refused(
    fit: Callable[..., Any], dataset: Callable[..., PrivateDataset], records: Any, tmp_path: Path,  # noqa: ANN401
    untrained: Callable[..., Any],
) -> None:  # fmt: skip
    folder, run = published(tmp_path / "hub"), tmp_path / "run"
    with pytest.raises(ValueError, match="residual must be 'off' with the weights"):
        fit(run, records, folder, residual="added")
    with pytest.raises(ValueError, match=r"teacher\.init\.\* .* none were given"):
        untrained("dpdm", init=Architecture((4,), 1, (), 4)).fit(dataset(records), out=run)
    with pytest.raises(ValueError, match="adapters must be 0 for a network that has learned noth"):
        fit(run, records, adapters=2)
    with pytest.raises(ValueError, match="a rank from 1 to 7"):
        fit(run, records, folder, warm_start_share=None, adapters=8)
    halves = untrained("dpdm", warm_start_share=None, adapters=2)
    halves.settings = settings_of(halves, False, weights_of(folder, SHAPE))
    with pytest.raises(ValueError, match="adapters need precision no .float32., got bf16"):
        halves.rehearse(dataset(records).facts, Hardware("cpu", "bf16"))
    made = untrained("dpdm", public=PublicSettings(n_steps=2))
    with pytest.raises(ValueError, match="two starts"):
        made.fit(dataset(records), out=run, init=folder, public=folder)
    sketch = PGE(budget=Budget(0.3, 1e-3), settings=PGESettings(mode="sketch"))
    with pytest.raises(ValueError, match="mode 'sketch' of PGE must start without other weights"):
        sketch.fit(dataset(records), out=run, init=folder)
    assert not run.exists() and not list((tmp_path / "home").rglob("*.jsonl"))


def test_an_audit_begins_every_world_at_the_same_made_up_weights(
    fit: Callable[..., Any], records: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: ANN401
) -> None:  # fmt: skip
    fitted = fit(tmp_path / "run", records, published(tmp_path / "hub"), warm_start_share=None)
    base, others = neighbours(fitted.facts, 0)
    one = {"negative": others["negative of another record"]}
    monkeypatch.setattr(replay, "neighbours", lambda facts, seed: (base, one))
    monkeypatch.setattr(audit, "of_stage", lambda *given: [])
    monkeypatch.setattr(audit, "verify", lambda folder: [])
    worlds: list[str] = []
    plain = InitialWeights.put_into

    def watched(self: InitialWeights, denoiser: Denoiser, names: Any) -> None:  # noqa: ANN401
        plain(self, denoiser, names)
        weights = torch.cat([p.flatten() for p in denoiser.parameters()])
        worlds.append(sha256(weights.detach().numpy().tobytes()).hexdigest())

    monkeypatch.setattr(InitialWeights, "put_into", watched)
    found = audit.audit(fitted, games=False, hardware=CPU)
    assert found.passed, found.text()
    assert len(worlds) == 2 and len(set(worlds)) == 1

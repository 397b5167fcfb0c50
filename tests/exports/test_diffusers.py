"""Exported parts, loaded by diffusers alone, draw what `dpgen sample` draws."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors import safe_open

from dpgen.exports.diffusers import write
from dpgen.exports.drawing_code import DRAW, SCHEDULER
from dpgen.exports.export import export
from dpgen.exports.model import model_of
from dpgen.exports.table import EXPORTS, writer
from dpgen.generator.fitted import Fitted
from dpgen.images.images import PublicFacts
from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.privacy.statements.document import Certificate, Notice
from dpgen.synthetic.synthesise import synthesise
from samplers import Sampler, make_sampler
from tests.commands import dpgen

N_IMAGES = 9
# torchvision may lack operators that diffusers asks for; nothing of dpgen stands here.
ALONE = """\
import sys, torch
class Without:
    def find_spec(self, name, *rest):
        if name.split(".")[0] in ("dpgen", "samplers"):
            raise ImportError("this package must not be needed")
sys.meta_path.insert(0, Without())
operators = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
CERTIFICATE = {
    "statement": "This model satisfies (1, 1e-05)-differential privacy.",
    "declared": "The shape was declared.",
    "mechanism": {"id": "x/y"},
    "guarantee": {
        "epsilon": 1.0, "delta": 1e-05, "adjacency": "add_remove", "unit": "record",
        "max_records_per_unit": 1,
    },
    "sha256": "0" * 64,
}  # fmt: skip


class Toy(Fitted):
    """A denoiser of random weights under a sampler, as if it was fitted."""

    facts: ClassVar[PublicFacts] = PublicFacts((1, 8, 8), ("a", "b", "c"), 30, origin="stated")

    def __init__(self, sampler: Sampler | None, document: Any = None, **config: Any) -> None:  # noqa: ANN401
        torch.manual_seed(0)
        denoiser = Denoiser(DenoiserConfig((1, 8, 8), 3, (8, 16), 1, (), 4, **config))
        with torch.no_grad():
            for name, value in denoiser.state_dict().items():
                if name.startswith("unet."):  # the last layer would start at zero
                    value.add_(0.05 * torch.randn(value.shape))
        if denoiser.prior is not None:
            m = denoiser.prior.values.shape[1]
            spread = torch.eye(m).repeat(3, 1, 1) * torch.rand(3, 1, m)
            denoiser.prior.set(torch.rand(3, 64) - 0.5, spread, 0.1)
        self.networks = {"model": denoiser.eval().requires_grad_(False)}
        self._sampler, self._document = sampler, document or Certificate(CERTIFICATE)

    def default_sampler(self, network: str = "model") -> Sampler | None:
        return self._sampler

    @property
    def document(self) -> Certificate | Notice:
        return self._document


def path(name: str, n_steps: int = 4, **options: Any) -> Sampler:  # noqa: ANN401
    return make_sampler(name, n_steps=n_steps, sigma_min=0.05, sigma_max=10.0, **options)


def alone(code: str, **environment: str) -> None:
    """Runs code in a process in which this package cannot be imported."""
    ran = subprocess.run(
        [sys.executable, "-c", ALONE + code],
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_diffusers_alone_draws_the_same_images(tmp_path: Path) -> None:
    toys = {
        "bare": Toy(path("ddim")),
        "heun": Toy(path("heun")),
        "prior": Toy(path("ddim"), prior_bands=4),
        "fed": Toy(path("heun"), prior_bands=4, prior_input=True),
        "one level": Toy(path("ddim"), level=0.2),  # as a bootstrapped student has
    }
    code = ""
    for name, toy in toys.items():
        (tmp_path / name).mkdir()
        write(model_of(toy), tmp_path / name)
        drawing = DRAW.replace("FOLDER", str(tmp_path / name))
        assert DRAW in (tmp_path / name / "README.md").read_text()
        code += f"{drawing}\nimages, labels = draw({N_IMAGES}, seed=7)\n"
        code += f"torch.save((images, labels), {str(tmp_path / f'{name}.pt')!r})\n"
    followed = SCHEDULER.replace("FOLDER", str(tmp_path / "bare")).replace("N_STEPS", "4")
    assert followed.replace(str(tmp_path / "bare"), "FOLDER") in (
        tmp_path / "bare" / "README.md"
    ).read_text()
    noise = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.save(noise, tmp_path / "noise.pt")
    code += f"{followed}\nnoise = torch.load({str(tmp_path / 'noise.pt')!r})\n"
    code += f"torch.save(follow(noise, torch.zeros(5).long()), {str(tmp_path / 'f.pt')!r})\n"
    alone(code, PYTHONPATH="")
    drawn = {}
    for name, toy in toys.items():
        images, labels = torch.load(tmp_path / f"{name}.pt")
        own = toy.sample(N_IMAGES, generator=torch.Generator().manual_seed(7))
        assert torch.equal(labels, own.labels)
        assert (images - own.pixels).abs().max() < 1e-5, name
        assert own.pixels.std() > 0.05
        drawn[name] = own.pixels
    assert (drawn["bare"] - drawn["heun"]).abs().max() > 1e-2  # so the path does matter
    assert (drawn["prior"] - drawn["fed"]).abs().max() > 1e-2
    assert (drawn["bare"] - drawn["one level"]).abs().max() > 1e-2
    score_fn = toys["bare"].networks["model"].score_fn(torch.zeros(5).long())
    wanted = path("ddim")(score_fn, noise, generator=torch.Generator()).clamp(-1, 1)
    assert (torch.load(tmp_path / "f.pt") - wanted).abs().max() < 1e-4


def test_a_scheduler_lies_there_only_where_its_steps_are_the_same(tmp_path: Path) -> None:
    cases = {
        "karras": (Toy(path("ddim")), True),
        "evenly": (Toy(path("ddim", rho=1.0)), False),
        "heun": (Toy(path("heun")), False),
        "prior": (Toy(path("ddim"), prior_bands=4), False),
    }
    for name, (toy, wanted) in cases.items():
        (tmp_path / name).mkdir()
        write(model_of(toy), tmp_path / name)
        assert (tmp_path / name / "scheduler").exists() == wanted, name
        assert ("EDMEulerScheduler" in (tmp_path / name / "README.md").read_text()) == wanted


def test_weights_carry_what_the_certificate_says(tmp_path: Path) -> None:
    write(model_of(Toy(path("ddim"), prior_bands=4)), tmp_path)
    for file in ("unet/diffusion_pytorch_model.safetensors", "prior.safetensors"):
        with safe_open(tmp_path / file, "pt") as opened:
            told = opened.metadata()
        assert told["privacy"] == CERTIFICATE["statement"] and told["epsilon"] == "1.0"
        assert told["delta"] == "1e-05" and told["unit"] == "record"
        assert told["certificate_sha256"] == "0" * 64
    assert json.loads((tmp_path / "run-privacy.json").read_text()) == CERTIFICATE
    assert CERTIFICATE["statement"] in (tmp_path / "README.md").read_text()


def test_a_model_without_a_guarantee_says_so_and_states_no_epsilon(tmp_path: Path) -> None:
    notice = Notice({"mechanism": {"id": "x/paper"}, "sha256": "0" * 64})
    write(model_of(Toy(path("ddim"), notice)), tmp_path)
    with safe_open(tmp_path / "unet" / "diffusion_pytorch_model.safetensors", "pt") as opened:
        told = opened.metadata()
    assert "NO PRIVACY GUARANTEE" in told["privacy"] and "epsilon" not in told
    text = (tmp_path / "README.md").read_text()
    assert "NO PRIVACY GUARANTEE" in text and "epsilon" not in text


@pytest.mark.parametrize(
    ("name", "options"),
    [("hamiltonian", {}), ("langevin", {}), ("ddpm", {}), ("edm", {}), ("ddim", {"eta": 0.5})],
    ids=["hamiltonian", "langevin", "ddpm", "edm", "ddim with noise"],
)
def test_a_way_of_drawing_that_others_lack_is_refused_by_name(
    name: str, options: dict[str, float]
) -> None:
    toy = Toy(path(name, **options))
    with pytest.raises(ValueError, match=r"drawn by Annealed\(.*which other libraries lack: --sam"):
        model_of(toy)
    assert model_of(toy, sampler=path("ddim")).transport == "euler"


def test_a_network_that_is_no_unet_is_refused_by_name() -> None:
    from dpgen.networks.proposer import Proposer

    class Drawing(Proposer):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

    toy = Toy(None)
    toy.networks = {"model": Drawing()}
    with pytest.raises(ValueError, match="network 'model' is a proposer and no UNet"):
        model_of(toy)


def test_every_target_has_a_writer() -> None:
    assert [callable(writer(name)) for name in EXPORTS] == [True] * len(EXPORTS)


@pytest.mark.usefixtures("small_network", "home", "one_thread", "remembering_accountant")
def test_a_run_is_exported_whole_or_not_at_all(
    tmp_path: Path, records: Any, dataset: Callable[..., Any],  # noqa: ANN401
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run, out = tmp_path / "run", tmp_path / "parts"
    untrained("dp-sad").fit(dataset(records), out=run, seed=1, show=False)
    ran = dpgen("export", run, "--to", "diffusers", "--out", out)
    assert ran.exit_code == 0, ran.output
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    ran = dpgen("export", run, "--to", "diffusers", "--out", out)
    assert ran.exit_code == 2 and "choose an empty folder" in ran.stderr
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    ran = dpgen("export", run, "--to", "difusers", "--out", tmp_path / "other")
    assert ran.exit_code == 2 and "the nearest is 'diffusers'" in ran.stderr

    def full(*_: Any, **__: Any) -> None:  # noqa: ANN401
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("dpgen.exports.diffusers.save_file", full)
        with pytest.raises(OSError, match="No space left"):
            export(run, tmp_path / "full", target="diffusers")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "parts", "run"]

    # And its parts draw what `dpgen sample` writes.
    synthesise(run, N_IMAGES, tmp_path / "set", layout="npz", seed=5)
    code = DRAW.replace("FOLDER", str(out)).replace("draw(64, seed=0)", f"draw({N_IMAGES}, seed=5)")
    alone(f"{code}\ntorch.save((pixels, labels), {str(tmp_path / 'd.pt')!r})\n", PYTHONPATH="")
    pixels, labels = torch.load(tmp_path / "d.pt")
    with np.load(tmp_path / "set" / "images-00000.npz") as written:
        apart = pixels.permute(0, 2, 3, 1).numpy().astype(int) - written["images"]
        assert abs(apart).max() <= 1 and (apart != 0).mean() < 0.01
        assert labels.tolist() == written["labels"].tolist()

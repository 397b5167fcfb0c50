"""What a statement says of the images from which networks learned before the private stages, or of
the weights with which they began.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpgen.privacy.accounting.accountant import round_up
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.statements.certificate import CertificateError

KEY = "public_start"  # in a statement and in config.json; absent where networks start untrained
SENTENCE = "statement"
IMAGES = {"name", "n_images", "sha256", "n_steps"}
CLASSES = {"names", "sha256"}
WEIGHTS = {"name", "sha256", "classes"}
RUN = {"sha256", "mechanism", "guarantee", "data_set", "exported"}
LONGEST = 16  # runs, each of which began with weights of the one before
GUARANTEE = ("epsilon", "delta", "adjacency", "max_records_per_unit")
# What a statement says beside the shape and the number of records that it reveals unpaid.
COMPARED: Mapping[str, str | None] = {
    "what": "that no image that was declared public was found among the records",
    "how": "decoded pixels, compared exactly; not found are near-duplicates and images of one "
    "single colour",
    "event": None,
}


def images_told(
    name: str, n_images: int, sha256: str, n_steps: int,
    classes: tuple[list[str], str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Describes public images, as JSON values.

    Args:
        name: their name.
        n_images: number of images.
        sha256: of their pixels.
        n_steps: training steps on them.
        classes: private classes that were learned from public images of that name, and the SHA-256
            of the labels; None where labels were not used.
    """
    told: dict[str, Any] = {
        "name": name, "n_images": n_images, "sha256": sha256, "n_steps": n_steps,
    }  # fmt: skip
    if classes is not None:
        told["classes"] = {"names": classes[0], "sha256": classes[1]}
    return told


def weights_told(
    name: str, sha256: str, classes: Sequence[str], run: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Describes weights with which a network began, as JSON values.

    Args:
        name: name of their folder.
        sha256: of the file.
        classes: private classes whose embedding was taken over by their name.
        run: `run_told` of the run that released them; None for weights that are declared public.
    """
    told: dict[str, Any] = {"name": name, "sha256": sha256, "classes": list(classes)}
    return told if run is None else {**told, "run": dict(run)}


def run_told(statement: Mapping[str, Any], *, exported: bool) -> dict[str, Any]:
    """Describes the run that released the weights with which another one began.

    Args:
        statement: its certificate.
        exported: whether the weights are an export, whose files the certificate does not cover.
    """
    told: dict[str, Any] = {
        "sha256": statement["sha256"],
        "mechanism": statement["mechanism"]["id"],
        "guarantee": {name: statement["guarantee"][name] for name in GUARANTEE},
        "data_set": statement["data_set"]["name"],
        "exported": exported,
    }
    if KEY in statement:
        start = start_told(statement[KEY])
        told["start"] = {name: start[name] for name in start.keys() - {SENTENCE}}
    return told


def data_sets_of(start: Mapping[str, Any]) -> list[str]:
    """Returns the names of the data sets from which the weights of a start were learned, those of
    the run that released them first; none for images, and for weights that are declared public.
    """
    run = start.get("weights", {}).get("run")
    return [] if run is None else [run["data_set"], *data_sets_of(run.get("start", {}))]


def start_told(start: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a statement about a start: what it was, and in words.

    Args:
        start: ``{"images": images_told(...)}`` or ``{"weights": weights_told(...)}``, or such a
            part of a statement.

    Raises:
        CertificateError: it is no start that a run writes.
    """
    keys = start.keys() - {SENTENCE}
    if keys == {"images"}:
        images = dict(start["images"])
        return {"images": images, SENTENCE: _words(images)}
    if keys == {"weights"}:
        weights = dict(start["weights"])
        return {"weights": weights, SENTENCE: _words_of_weights(weights)}
    raise CertificateError(f"a public start has images or weights, got {sorted(start)!s:.200}")


def has_images(statement: Mapping[str, Any]) -> bool:
    """Returns whether a statement names public images, with which the records were compared."""
    return "images" in statement.get(KEY, {})


def start_of(statement: Mapping[str, Any]) -> str | None:
    """Returns the words of a statement on its public start; None if there was none."""
    return str(statement[KEY][SENTENCE]) if KEY in statement else None


def _words(images: Mapping[str, Any]) -> str:
    keys = IMAGES | ({"classes"} if "classes" in images else set())
    whole = all(type(images.get(k)) is int and images[k] > 0 for k in ("n_images", "n_steps"))
    text = all(type(images.get(k)) is str and images[k] for k in ("name", "sha256"))
    if images.keys() != keys or not whole or not text:
        raise CertificateError("a start on public images states name, number, digest and steps")
    learned = ""
    if "classes" in images:
        if images["classes"].keys() != CLASSES:
            raise CertificateError("labels of public images are stated by names and a digest")
        names = ", ".join(images["classes"]["names"]) or "none"
        learned = (
            "Images whose class has the name of a private class were learned as that class: "
            f"{names} (SHA-256 of the labels {images['classes']['sha256']}). "
        )
    return (
        f"Before the private stages the network learned for {images['n_steps']} steps from "
        f"{images['n_images']} images that whoever ran the training declared public, named "
        f"{images['name']!r} (SHA-256 of the pixels {images['sha256']}). {learned}Nobody checked "
        "that they are public, and the guarantee does not cover them."
    )


def _words_of_weights(weights: Mapping[str, Any]) -> str:
    keys = WEIGHTS | ({"run"} if "run" in weights else set())
    text = all(type(weights.get(key)) is str and weights[key] for key in ("name", "sha256"))
    if weights.keys() != keys or not text or type(weights["classes"]) is not list:
        raise CertificateError("weights of a start are stated by name, digest and classes")
    file = f"{weights['name']!r} (SHA-256 of the file {weights['sha256']})"
    names = ", ".join(map(str, weights["classes"]))
    kept = f"Classes of the same name began as they were there: {names}. " if names else ""
    if "run" in weights:
        return f"{_words_of_run(weights['run'], file)} {kept}".rstrip()
    return (
        "Before the private stages the network began with weights that whoever ran the training "
        f"declared public, in {file}. {kept}Nobody checked that they are public, and the guarantee "
        "does not cover what they were learned from."
    )


def _words_of_run(run: Mapping[str, Any], file: str) -> str:
    if run.keys() - {"start"} != RUN or run["guarantee"].keys() != set(GUARANTEE):
        raise CertificateError("a run that a start is of is stated by certificate and guarantee")
    told, most = run["guarantee"], len(data_sets_of({"weights": {"run": run}}))
    if most > LONGEST:
        raise CertificateError(f"weights go back to at most {LONGEST} runs, got {most}")
    delta = round_up(told["delta"], 6)  # `:g` alone would round it to nearest
    phrase = Relation(told["adjacency"], told["max_records_per_unit"]).phrase
    source = (
        f"Before the private stages the network began with weights of a run of {run['mechanism']}, "
        f"in {file}. What it learned from its own records is covered by its own certificate "
        f"(SHA-256 {run['sha256']}), which states ({told['epsilon']:g}, {delta:g})-"
        f"differential privacy with respect to {phrase}, and not by this one."
    )
    if run["exported"]:
        source += " Nobody checked that exported weights are those of that run."
    source += (
        " Records of the two data sets are compared only where one installation has read both as "
        "private, and by exactly equal pixels. For a record, or a person, that is in both, both "
        "guarantees hold together: their epsilons and deltas add up."
    )
    if "start" in run:
        source += f" Of that run its certificate says: {start_told(run['start'])[SENTENCE]}"
    return source

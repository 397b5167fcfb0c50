"""``README.md``: a dataset card, with the header by which Hugging Face `datasets` reads the set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpgen.data.formats.table import FORMATS
from dpgen.release.loading import loading
from dpgen.release.subject import MARKED, Subject
from dpgen.release.wording import (
    WARNING,
    attacks,
    bullets,
    delta,
    guarantee,
    limits,
    neighbours,
    not_covered,
    public_facts,
    unit,
    why_none,
)
from dpgen.release.yaml import yaml_text

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

def dataset_card(subject: Subject) -> str:
    """Writes the card in Markdown, with its header in YAML."""
    return f"---\n{yaml_text(_header(subject))}---\n\n{_body(subject)}"


def _header(subject: Subject) -> dict[str, Any]:
    tags = ["synthetic", "differential-privacy" if subject.certified else "no-privacy-guarantee"]
    size = next((name for most, name in SIZES if subject.n_images < most), "n>1M")
    header: dict[str, Any] = {"pretty_name": subject.name}
    if (licence := subject.words.of("license")) is not None:
        header["license"] = licence
    header |= {
        "annotations_creators": ["machine-generated"],
        "source_datasets": ["original"],
        "size_categories": [size],
        "task_categories": ["image-classification", "unconditional-image-generation"],
        "tags": tags,
    }
    pattern = FORMATS[subject.layout].shards or "*/*.png"
    default: dict[str, Any] = {
        "config_name": "default",
        "data_files": [{"split": "train", "path": pattern}],
    }
    if subject.layout == "folder":
        # Otherwise `datasets` numbers the existing folders by name, and drops a single class.
        default |= {"drop_labels": False, "features": _features(subject)}
    header["configs"] = [default]  # no other file of the folder is data
    if subject.layout != "npz":
        header["dataset_info"] = {"config_name": "default", "features": _features(subject)}
    return header


def _features(subject: Subject) -> list[dict[str, Any]]:
    """Returns the columns as `datasets` sees them."""
    names = {str(number): name for number, name in enumerate(subject.class_names)}
    label: Mapping[str, Any] = {"class_label": {"names": names}}
    if subject.layout == "webdataset":
        return [
            {"name": "png", "dtype": "image"},
            {"name": "cls", "dtype": label},
            {"name": "__key__", "dtype": "string"},
            {"name": "__url__", "dtype": "string"},
        ]
    return [{"name": "image", "dtype": "image"}, {"name": "label", "dtype": label}]


def _body(subject: Subject) -> str:
    parts = [f"# {subject.name}\n"]
    if not subject.certified:
        parts.append(f"> **{WARNING}**\n")
    parts.append(f"{subject.description}. Made by {subject.methods}, {subject.created}.\n")
    if (use := subject.words.of("intended_use")) is not None:
        parts.append(f"Intended use, in the curator's words: {use}\n")
    parts.append("## Privacy\n")
    if subject.certified:
        stated = subject.content["guarantee"]
        parts += [
            f"{guarantee(subject)}\n",
            bullets(
                [
                    f"epsilon = {stated['epsilon']:g} at delta = {delta(subject)}",
                    f"Unit: {unit(subject)}",
                    f"Neighbours: {neighbours(subject)}",
                    *attacks(subject),
                ]
            ),
            "`privacy.json` is the certificate; `dpgen verify FOLDER` computes it again. "
            "`RELEASE.md` is the page to sign.\n",
        ]
    else:
        parts.append(f"{why_none(subject)}\n")
    parts += ["## Published as it is\n", bullets(public_facts(subject))]
    if subject.certified:
        parts += ["## Not covered\n", bullets(not_covered(subject))]
    parts += ["## Limits\n", bullets(limits(subject))]
    parts += ["## Loading\n", loading(subject.layout), f"<!-- {MARKED} -->\n"]
    return "\n".join(parts)

"""``release.yaml``: the fields of the Differential Privacy Deployments Registry.

The field names are those of its schema of July 2026 (opendp/deployments-registry-data).
"""

from __future__ import annotations

from typing import Any

from dpgen.privacy.statements.statement import stated_relation
from dpgen.release.subject import MARKED, Subject
from dpgen.release.wording import WARNING, attacks, neighbours, not_covered, public_facts, unit
from dpgen.release.yaml import yaml_text


def registry_entry(subject: Subject) -> str:
    """Writes the entry in YAML. Fields that are not stated are left out and named in its notes."""
    words = subject.words
    entry: dict[str, Any] = {
        "basic": _given(
            {
                "name": subject.name,
                "data_curators": list(words.curators),
                "description": f"{subject.description}.",
                "intended_use": words.of("intended_use"),
                "data_product_type": "Synthetic data",
                "data_product_region": words.of("region"),
                "publication_date": words.of("publication_date"),
                "data_product_sector": words.of("sector"),
            }
        )
    }
    if subject.certified:
        entry |= _privacy(subject)
    entry["administrative"] = _given(
        {
            "sources": f"{subject.document.name}, sha256 {subject.content['sha256']}",
            "notes": " ".join(_notes(subject)),
            "registry_authors": list(words.curators),
        }
    )
    return f"# {MARKED}\n{yaml_text(entry)}"


def _privacy(subject: Subject) -> dict[str, Any]:
    content = subject.content
    stated = content["guarantee"]
    channels, height, width = subject.shape
    relation = stated_relation(stated)
    return {
        "dp_variant": {
            "variant_name": "Approximate DP",
            "data_domain": f"Labelled images of {channels} x {height} x {width} in "
            f"{len(subject.class_names)} classes, any number of them",
            "unprotected_quantities": " ".join(public_facts(subject)),
        },
        "privacy_loss": {
            "privacy_unit": relation.unit,
            "privacy_unit_details": f"{unit(subject)} {neighbours(subject)}",
            "privacy_parameters": {"epsilon": stated["epsilon"], "delta": stated["delta"]},
            "privacy_parameters_details": f"{content['statement']} {' '.join(attacks(subject))}",
        },
        "deployment_model": _given(
            {
                "model_name": stated["model"].capitalize(),
                "actors": subject.words.of("actors"),
                "release_type": "One release",
                "release_type_details": "A model was trained once; any number of images may be "
                "drawn from it at no further cost.",
                "data_source_type": "Static",
                "access_type": "Non-interactive",
            }
        ),
        "accounting": {
            "post_processing": f"Covers {stated['covers']}: what is made of released values costs "
            "nothing.",
            "composition": f"{content['accounting']['accountant']}; rounded "
            f"{content['accounting']['rounding']}. Theorems: {_theorems(subject)}.",
        },
        "implementation": _given(
            {
                "preprocessing_and_hyperparameter_tuning": " ".join(
                    dict.fromkeys(part["tuning"]["statement"] for part in subject.parts)
                ),
                "mechanisms": f"{subject.methods}; {_mechanisms(subject)}. Not covered: "
                f"{' '.join(not_covered(subject))}",
                "justification": subject.words.of("justification"),
            }
        ),
    }


def _mechanisms(subject: Subject) -> str:
    names = {
        settings["mechanism"]
        for part in subject.parts
        for settings in part["mechanism"]["stages"].values()
    }
    noise = {part["implementation"]["noise"] for part in subject.parts}
    return f"{', '.join(sorted(names))}; noise: {'; '.join(sorted(noise))}"


def _theorems(subject: Subject) -> str:
    """Returns the theorems as cited; statements of an earlier schema name one in words."""
    found = subject.content["mechanism"]
    if "theorems" not in found:
        return str(found["theorem"])
    return "; ".join(f"{one['name']}, {one['title']}" for one in found["theorems"])


def _notes(subject: Subject) -> list[str]:
    told = [] if subject.certified else [WARNING]
    if missing := subject.words.missing:
        told.append(f"Not stated in release.toml: {', '.join(missing)}.")
    return told


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields that were stated, without the others."""
    return {key: value for key, value in fields.items() if value not in (None, [], "")}

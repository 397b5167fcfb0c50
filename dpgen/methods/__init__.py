"""The generation methods, one file for each paper, and the table of them, imported when used."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

from dpgen.settings import nearest


class Method(NamedTuple):
    """A row of the table of methods.

    home: module and name of the method's class.
    settings: module and name of the class of its settings.
    summary: the method in a line.
    modes: the guarantee of each mode, by name; the first mode is the default.
    """

    home: str
    settings: str
    summary: str
    modes: dict[str, str]


METHODS = {
    "dp-sad": Method(
        "dpgen.methods.dp_sad:DPSAD",
        "dpgen.configurations.dp_sad:DPSADSettings",
        "private diffusion teacher, distilled into a student of 1 to 8 steps",
        {
            "sealed": "(epsilon, delta)-DP: Gaussian warm start and DP-SGD teacher are charged, "
            "the student sees only what they released",
            "paper": "no guarantee: the published flow, a negative control; needs "
            "--allow-unverified, carries a notice",
        },
    ),
    "pge": Method(
        "dpgen.methods.pge:PGE",
        "dpgen.configurations.pge:PGESettings",
        "score fitted by DP-SGD as a residual over a private Gaussian, Hamiltonian sampling",
        {
            "dpsgd": "(epsilon, delta)-DP: Gaussian warm start and DP-SGD are charged",
            "sketch": "(epsilon, delta)-DP: a few Gaussian releases are charged, a score is fitted "
            "to them for free; minutes on a CPU",
            "paper": "no guarantee: the published flow, a negative control; needs "
            "--allow-unverified, carries a notice",
        },
    ),
    "dpdm": Method(
        "dpgen.methods.dpdm:DPDM",
        "dpgen.configurations.dpdm:DPDMSettings",
        "diffusion model trained by DP-SGD with noise multiplicity; the baseline",
        {"dpsgd": "(epsilon, delta)-DP: Gaussian warm start and DP-SGD are charged"},
    ),
    "dpdfd": Method(
        "dpgen.methods.dpdfd:DPDFD",
        "dpgen.configurations.dpdfd:DPDFDSettings",
        "private sketch or moments, and a classifier, then a generator and a student without data",
        {
            "sealed": "(epsilon, delta)-DP: a few Gaussian releases and the classifier's steps are "
            "charged, generator and student see only what they released",
            "paper": "no guarantee: the published flow, a negative control; needs "
            "--allow-unverified, carries a notice",
        },
    ),
    "dfkd": Method(
        "dpgen.methods.dfkd:DFKD",
        "dpgen.configurations.dfkd:DFKDSettings",
        "private sketch and classifier, then a student of its labels of drawn images",
        {
            "sealed": "(epsilon, delta)-DP: a few Gaussian releases and the classifier's steps are "
            "charged, generator and student see only what they released; what changes labels at "
            "random adds nothing to it",
            "paper": "no guarantee: the published flow, a negative control; needs "
            "--allow-unverified, carries a notice",
        },
    ),
    "m3d": Method(
        "dpgen.methods.m3d:M3D",
        "dpgen.configurations.m3d:M3DSettings",
        "condensed set: 50 images a class, or as many as you say, fitted to two releases",
        {
            "release": "(epsilon, delta)-DP: two Gaussian releases of class embeddings are "
            "charged, the images are fitted to them for free; two minutes on a CPU"
        },
    ),
    "dpsd": Method(
        "dpgen.methods.dpsd:DPSD",
        "dpgen.configurations.dpsd:DPSDSettings",
        "private sketch, and noised votes of teachers on disjoint shards on its images",
        {
            "label": "(epsilon, delta)-DP: a few Gaussian releases and every vote are charged, "
            "student and generator see only what they released",
            "data": "(epsilon, delta)-DP: the same with bounded corrections of the student's "
            "probabilities in the place of votes",
            "paper": "no guarantee: the published flow, a negative control; needs "
            "--allow-unverified, carries a notice",
        },
    ),
    "dgd": Method(
        "dpgen.methods.dgd:DGD",
        "dpgen.configurations.dgd:DGDSettings",
        "private sketch, classifier and votes; a student regularised along the images' manifold",
        {
            "sealed": "(epsilon, delta)-DP: a few Gaussian releases, the classifier's steps and "
            "every vote are charged, all networks see only what they released",
            "paper": "no guarantee: the published flow, a negative control; needs "
            "--allow-unverified, carries a notice",
        },
    ),
}

# What is learned from models, and not from records: `dpgen transcribe` begins it.
OF_MODELS = {
    "teachers": Method(
        "dpgen.methods.teachers:Teachers",
        "dpgen.configurations.teachers:TeachersSettings",
        "private student of the noised votes of teachers that silos have trained",
        {"votes": "(epsilon, delta)-DP of each teacher and all records behind it: every vote is "
                  "charged"},
    ),
}


def find(method: str) -> type[Any]:
    """Returns the class of a method id. Raises ValueError naming the nearest known id."""
    if method in OF_MODELS:
        raise ValueError(
            f"{method!r} learns from models, and not from records: dpgen transcribe --{method} "
            "FOLDER begins it"
        )
    return find_held(method)


def find_held(method: str) -> type[Any]:
    """Returns the class of the method id that a run folder holds, of records or of models."""
    return _imported(row_of(method).home)


def find_settings(method: str) -> type[Any]:
    """Returns the class of the settings of a method id, which makes the plan; it is imported
    without torch.

    Raises ValueError naming the nearest known id.
    """
    return _imported(row_of(method).settings)


def row_of(method: str) -> Method:
    """Returns the row of a method, of records or of models. Raises ValueError naming the nearest
    known id.
    """
    if method in OF_MODELS:
        return OF_MODELS[method]
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: {nearest(method, list(METHODS))}")
    return METHODS[method]


def _imported(place: str) -> type[Any]:
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)

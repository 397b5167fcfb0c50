"""Audits every certified mode on the embedded digits: trains, audits, writes a table.

    python scripts/audits.py --out assets/audits.md

Its numbers go into a JSON file of the same name; a row that is in there is not run again.
With --pages, the page of every audit is kept as well. A violation ends the script with status 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measurement import Rows

from dpgen import Budget, open_images
from dpgen.auditing.audit import audit
from dpgen.auditing.findings import Audit, Finding
from dpgen.auditing.page import render
from dpgen.methods import find
from dpgen.methods.loading import load
from dpgen.settings import from_dict

MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "dp-sad": ("dp-sad", {}),
    "dpdm": ("dpdm", {}),
    "pge, mode dpsgd": ("pge", {}),
    "pge, mode sketch": ("pge", {"mode": "sketch"}),
    "pge, mode sketch, labeller": (
        "pge", {"mode": "sketch", "sketch": {"labeller_share": 0.2}},
    ),
    "pge, mode sketch, spectrum": (
        "pge", {"mode": "sketch", "sketch": {"spectrum": {"bands": 6}}},
    ),
    "pge, mode sketch, spectrum, classifier": (
        "pge",
        {"mode": "sketch", "sketch": {"spectrum": {"bands": 6}, "classifier": {"share": 0.2}}},
    ),
    "dpdfd": ("dpdfd", {}),
    "dpdfd, prior moments": ("dpdfd", {"prior": "moments"}),
    "dfkd": ("dfkd", {}),
    "m3d": ("m3d", {}),
    "dpsd": ("dpsd", {}),
    "dpsd, mode data": ("dpsd", {"mode": "data"}),
    "dgd": ("dgd", {}),
}  # fmt: skip
HEAD = """# Audits of every certified mode on the embedded digits

`python scripts/audits.py --out assets/audits.md`; delta {delta:g}, add or remove one record. A game
refutes an epsilon or does not: every epsilon below the first number is refuted, and in parentheses
stands the least that would have been seen, of a Gaussian mechanism, with probability 0.9; first by
the (epsilon, delta) bound, then by the f-DP bound. Two worlds: {n_runs} runs each of
every stage's mechanism, with so little noise that the claim is {sharp:.3g}. Gradient canaries: one
run of every stage's mechanism as configured; the stage of which most was refuted. Label canaries:
one training as configured, the released model asked (`--label-canaries`; the rows of the sketch,
of dpdfd, dpsd and dgd, whose decoder slows with every class, of the spectrum and of m3d were made
with 0). At epsilon 1 the digits are too few for the shards of dpsd and dgd, which refuse to run.

| mode | epsilon | verdict | a neighbour moved a release by at most, bound 1 | released files \
that differ | row and neighbours move a sum by at most, margin 1e-05 | worst z of noise and coins, \
limit 6 | least chance of noise and coins that know of others, limit 1e-09 | two worlds | gradient \
canaries | label canaries | seconds |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--delta", type=float, default=1e-4)
    parser.add_argument("--label-canaries", type=int, default=300)
    parser.add_argument("--pages", type=Path, help="folder")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file")
    args = parser.parse_args()
    rows = Rows(args.out.with_suffix(".json"))
    for mode in args.modes:
        for epsilon in args.epsilons:
            if rows.hold(mode=mode, epsilon=epsilon):
                continue
            start = time.perf_counter()
            found = _audited(mode, Budget(epsilon, args.delta), args.label_canaries)
            if args.pages is not None:
                args.pages.mkdir(parents=True, exist_ok=True)
                name = f"{mode} {epsilon:g}".replace(",", "").replace(" ", "-")
                (args.pages / f"{name}.html").write_text(render(found))
            seconds = round(time.perf_counter() - start)
            rows.add({"mode": mode, "epsilon": epsilon, "seconds": seconds, **found.to_dict()})
            print(f"{mode} at {epsilon:g}: {found.verdict}")
    order = list(MODES)
    held = sorted(rows.held, key=lambda row: (order.index(row["mode"]), row["epsilon"]))
    worlds = [f["numbers"] for f in held[0]["findings"] if f["kind"] == "two worlds"]
    head = HEAD.format(
        delta=args.delta, n_runs=worlds[0]["n_runs"], sharp=worlds[0]["claimed_epsilon"]
    )
    args.out.write_text(head + "".join(map(_line, held)))
    sys.exit(0 if all(row["passed"] for row in held) else 1)


def _audited(mode: str, budget: Budget, n_label_canaries: int) -> Audit:
    """Trains and audits a run with a temporary home and folder."""
    kind, values = find(MODES[mode][0]), MODES[mode][1]
    with tempfile.TemporaryDirectory() as place:
        os.environ["DPGEN_HOME"] = str(Path(place) / "home")
        run = Path(place) / mode
        generator = kind(budget=budget, settings=from_dict(kind.Settings, values))
        generator.fit(open_images("digits"), out=run, seed=0, show=True)
        return audit(load(run), n_label_canaries=n_label_canaries, show=True)


def _line(row: dict[str, Any]) -> str:
    findings = [Finding(**finding) for finding in row["findings"]]
    moved = max(max(f.numbers["moved"].values()) for f in _of(findings, "neighbours before"))
    different = sum(len(f.numbers["different"]) for f in _of(findings, "everything released"))
    worst = max(
        abs(score) for f in _of(findings, "randomness") for score in f.numbers["scores"].values()
    )
    shifted = max(f.numbers["of_a_sum"] for f in _of(findings, "rows and neighbours"))
    least = min(x for f in findings for x in f.numbers.get("chances", {}).values())
    cells = [
        row["mode"], f"{row['epsilon']:g}", "no violation" if row["passed"] else "**VIOLATION**",
        f"{moved:.5f}", str(different), f"{shifted:.0e}", f"{worst:.1f}", f"{least:.1g}",
        _game([f for f in findings if f.kind == "two worlds"]),
        _game(list(_of(findings, "gradient canaries"))),
        _label_game(list(_of(findings, "label canaries"))),
        str(row["seconds"]),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |\n"


def _of(findings: list[Finding], words: str) -> Iterator[Finding]:
    return (finding for finding in findings if words in finding.name)


def _game(findings: list[Finding]) -> str:
    """Formats, for each bound, the largest refuted epsilon of a stage and the smallest that would
    have been detected there.
    """
    if not findings:
        return "not played"
    cells = []
    for at in range(2):
        bounds = [finding.numbers["bounds"][at] for finding in findings]
        most = max(bounds, key=lambda bound: bound["refuted"])
        seen = most["detectable"]
        would = "nothing" if seen == "infinity" else f"{seen:.2g}"
        cells.append(f"{most['refuted']:.2f} ({would})")
    return "; ".join(cells)


def _label_game(findings: list[Finding]) -> str:
    return _game(findings) + "".join(f", {f.numbers['m']} canaries" for f in findings)


if __name__ == "__main__":
    main()

"""What the command line prints: plans, evaluations, ledgers; as text and as dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpgen.data.identity import home
from dpgen.data.images import Images, PublicFacts, to_float
from dpgen.data.sources import open_source
from dpgen.evaluation.grid import save_panels
from dpgen.evaluation.utility import Utility, UtilityProtocol, utility
from dpgen.generator import PrivateGenerator
from dpgen.privacy.accounting import Budget, round_up
from dpgen.privacy.charges import n_runs
from dpgen.privacy.events import event_to_json
from dpgen.privacy.ledger import PrivacyLedger
from dpgen.privacy.notice import Claim, sentences
from dpgen.progress import progress_bar
from dpgen.workplace import Hardware, Rehearsal

LONG = 3600.0  # seconds of training, from which on a plan names the way without a GPU


@dataclass(frozen=True)
class PlanReport:
    """The price of a run and what it would take."""

    method: str
    budget: Budget
    facts: PublicFacts
    epsilon: float
    stages: tuple[dict[str, Any], ...]
    rehearsal: Rehearsal
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        f, relation = self.facts, self.facts.adjacency.replace("_", " or ")
        lines = [
            f"{self.method} on {f.n_records} records of "
            f"{f.shape[0]}x{f.shape[1]}x{f.shape[2]} in {f.n_classes} classes",
            f"spends epsilon = {self.epsilon:g} of {self.budget.epsilon:g} at "
            f"delta = {self.budget.delta:g} "
            f"({relation} one record); nothing was charged",
            "",
            f"{'stage':14}{'releases':>9}{'rate':>9}{'noise / bound':>15}",
        ]
        for stage in self.stages:
            for leaf in stage["events"]:
                lines.append(
                    f"{stage['label']:14}{leaf['steps']:>9}{leaf['rate']:>9.4g}"
                    f"{leaf['noise_multiplier']:>15.5g}"
                )
        r = self.rehearsal
        lines += [
            "",
            f"about {duration(r.seconds)} and {r.memory_bytes / 2**30:.1f} GiB on this {r.device} "
            f"({r.n_parameters:,} parameters; from a rehearsal on random images)",
        ]
        if r.device == "CPU" and r.seconds > LONG and not self.method.endswith("/sketch"):
            lines.append("there is no GPU here: pge --set mode=sketch takes minutes on a CPU")
        return "\n".join(lines)


@dataclass(frozen=True)
class ClaimReport:
    """What is claimed of a mode without a guarantee, and what is true."""

    claim: Claim
    facts: PublicFacts

    def to_dict(self) -> dict[str, Any]:
        return {"certified": False, **self.claim.to_dict(), "facts": self.facts.to_dict()}

    def text(self) -> str:
        lines = sentences(self.claim.to_dict())
        return "\n".join([*lines, "nothing was charged; train needs --allow-unverified"])


def plan_report(
    generator: PrivateGenerator, facts: PublicFacts, hardware: Hardware
) -> PlanReport | ClaimReport:
    """The plan of a generator whose settings are resolved; reads nothing private."""
    if not generator.certified:
        return ClaimReport(generator.claim(facts), facts)
    plan = generator.plan(facts)
    stages = tuple(
        {"label": s.label, "events": event_to_json(s.mechanism.event), **s.mechanism.settings}
        for s in plan.stages
    )
    return PlanReport(
        generator.mechanism_id,
        generator.budget,
        facts,
        round_up(plan.epsilon(generator.budget.delta)),
        stages,
        generator.rehearse(facts, hardware),
        asdict(generator.settings),
    )


def duration(seconds: float) -> str:
    """Seconds in the largest unit that leaves at least 2."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


@dataclass(frozen=True)
class EvaluationReport:
    """Accuracy on real images of classifiers trained on each set."""

    reference: str
    split: str
    protocol: UtilityProtocol
    sets: dict[str, tuple[Utility, ...]]
    class_names: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": "dpgen-scores/1",
            "reference": self.reference,
            "split": self.split,
            "private": self.reference != "digits",
            "protocol": asdict(self.protocol),
            "sets": {name: [asdict(u) for u in scores] for name, scores in self.sets.items()},
        }

    def text(self) -> str:
        width = max(12, *(len(name) + 2 for name in self.sets))
        first = next(iter(self.sets.values()))[0]
        lines = [
            f"Accuracy on {first.n_test} real images ({self.reference}, {self.split}) of a "
            f"{self.protocol.network} "
            f"trained on synthetic images only",
            "",
            f"{'set':{width}}{'images':>8}{'accuracy':>16}   weakest class",
        ]
        for name, scores in self.sets.items():
            values = [100 * u.accuracy for u in scores]
            mean = sum(values) / len(values)
            spread = ""
            if len(values) > 1:
                error = (
                    sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)
                ) ** 0.5
                spread = f" +- {error:.1f}"
            weakest = min((p, k) for k, p in enumerate(scores[0].per_class) if p is not None)
            lines.append(
                f"{name:{width}}{scores[0].n_train:>8}{f'{mean:.1f} %{spread}':>16}   "
                f"{self.class_names[weakest[1]]} ({100 * weakest[0]:.0f} %)"
            )
        lines += ["", f"protocol: {self.protocol}"]
        return "\n".join(lines)


def evaluation_report(
    sets: Sequence[Path],
    reference: str,
    *,
    split: str,
    size: int | None,
    channels: str | None,
    network: str,
    seeds: int,
    preview: Path | None,
    quiet: bool,
) -> EvaluationReport:
    """Trains ``seeds`` classifiers per synthetic set and tests them on the reference."""
    real_source = open_source(
        reference,
        split=split,
        size=size,
        channels=int(channels) if channels else None,  # type: ignore[arg-type]
    )
    pixels, labels = real_source.read(range(len(real_source)))
    real = Images(to_float(pixels), labels)
    protocol = UtilityProtocol(network=network)
    loaded = {str(path): _synthetic(path, real_source.class_names) for path in sets}
    scores = {}
    with progress_bar("classifiers", len(sets) * seeds, show=not quiet) as advance:
        for name, images in loaded.items():
            results = []
            for seed in range(seeds):
                results.append(
                    utility(
                        images, real, len(real_source.class_names), seed=seed, protocol=protocol
                    )
                )
                advance()
            scores[name] = tuple(results)
    if preview is not None:
        save_panels({"real": real, **loaded}, preview, len(real_source.class_names))
    return EvaluationReport(reference, split, protocol, scores, real_source.class_names)


def _synthetic(path: Path, class_names: tuple[str, ...]) -> Images:
    """A set whose labels mean what the reference's mean."""
    source = open_source(path)
    if source.class_names != class_names:
        raise ValueError(
            f"the classes of {path} are {', '.join(source.class_names)}, those of the reference "
            f"{', '.join(class_names)}: they must be the same, in the same order"
        )
    pixels, labels = source.read(range(len(source)))
    return Images(to_float(pixels), labels)


def ledger_table(path: Path | None, raised: float | None) -> str:
    """One line per data set: spent, limit, runs, facts."""
    paths = [path] if path is not None else sorted((home() / "ledgers").glob("*.jsonl"))
    if raised is not None:
        if path is None:
            raise ValueError("--raise needs --ledger FILE: which data set's limit?")
        ledger = PrivacyLedger(path)
        ledger.raise_limit(Budget(raised, ledger.limit.delta))
    if not paths:
        return f"no data set has been charged here yet ({home() / 'ledgers'})"
    rows = [f"{'data set':18}{'spent':>8}{'limit':>8}{'delta':>9}{'runs':>6}  records, shape"]
    for file in paths:
        ledger = PrivacyLedger(file)
        lines, limit = ledger.lines(), ledger.limit
        facts = PublicFacts.from_dict(ledger.facts)
        rows.append(
            f"{ledger.dataset:18}{round_up(ledger.spent()):>8g}{limit.epsilon:>8g}"
            f"{limit.delta:>9g}{n_runs(lines):>6}  "
            f"{facts.n_records}, {facts.shape}  {file}"
        )
    return "\n".join(rows)

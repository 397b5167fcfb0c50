"""What the papers on data-free distillation claim, and what holds in the worst case."""

from __future__ import annotations

import math
from dataclasses import asdict

from dpgen.privacy.accounting.accountant import Budget, epsilon_of, round_up
from dpgen.privacy.accounting.calibration import calibrate
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.statements.notice import (
    Claim,
    WorstCase,
    gaussian_worst_case,
    responses_worst_case,
    unbounded,
)
from dpgen.published.data_free_settings import VOTES, PaperSettings

BY_ANSWER = "each step one Gaussian on the answer about one image"
BY_LABEL = "randomised response on a label, once"
BY_VOTES = "a Gaussian on the votes about each image, of which a record moves one; the rest free"
REASONS = {
    "answers": "The teacher has seen every record, so one record moves the answers about all "
    "images of a step, and not about one. The images are made up: drawing them amplifies nothing, "
    "and the bound holds between any two data sets.",
    "labels": "The teacher has seen every record, so one record may change every label, and not "
    "one. The labels are of made-up images, which are nobody's, and the bound holds between any "
    "two data sets.",
    "chosen": "The teacher, which has seen every record, chooses the classes that a label may "
    "become, and no noise hides its choice. What a response is drawn from is itself un-noised.",
    "frozen": "The generator was trained against a teacher that has seen every record, and nothing "
    "was noised. It and its images are functions of the records, whatever is done to labels.",
}


def claim(settings: PaperSettings, budget: Budget) -> Claim:
    """Finds the noise that meets ``budget`` by the accounting of the paper, and the worst case
    under that noise.
    """
    s = settings
    own: dict[str, object] = {**asdict(s)}
    if s.kind.bound is not None:
        # By the paper one answer of a step moves, by at most its diameter, whichever the relation.
        relation = Relation("add_remove", 1)
        multiplier = 2 * calibrate(lambda x: _claimed(s, x).event, budget, relation)
        claimed = round_up(epsilon_of(_claimed(s, multiplier / 2).event, budget.delta, relation))
        own["noise_multiplier"] = multiplier
        told = (claimed, BY_ANSWER, gaussian_worst_case(query_mu(s, multiplier), budget.delta))
    elif s.flow == VOTES:
        # As the paper says of its votes, one vote of each count moves, whichever the relation.
        relation = Relation("add_remove", 1)
        multiplier = calibrate(lambda x: _voted(s, x).event, budget, relation)
        claimed = round_up(epsilon_of(_voted(s, multiplier).event, budget.delta, relation))
        own["noise_multiplier"] = multiplier
        told = (claimed, BY_VOTES, unbounded(budget.delta))
    else:
        own["epsilon_of_response"] = budget.epsilon
        told = (budget.epsilon, BY_LABEL, _of_labels(s, budget))
    return Claim(
        mechanism=f"{s.kind.method}/paper",
        claimed_epsilon=told[0],
        claimed_by=told[1],
        worst_case=told[2],
        reason=REASONS[_why(s)],
        reference="theorem P3",
        settings=own,
    )


def _claimed(settings: PaperSettings, multiplier: float) -> GaussianLeaf:
    """Returns the event that the paper charges; ``multiplier`` in units of an answer's diameter."""
    return GaussianLeaf(1.0, multiplier, settings.n_steps)


def _voted(settings: PaperSettings, multiplier: float) -> GaussianLeaf:
    """Returns the event of the votes; ``multiplier`` in units of the distance of two votes."""
    return GaussianLeaf(1.0, multiplier, settings.n_answers)


def query_mu(settings: PaperSettings, noise_multiplier: float) -> float:
    """Computes sensitivity over noise of all answers together, each of which moves by twice its
    bound: 2 sqrt(b T) / sigma.
    """
    return 2 * math.sqrt(settings.n_answers) / noise_multiplier


def _of_labels(settings: PaperSettings, budget: Budget) -> WorstCase:
    if settings.kind.frozen or settings.candidates == "teacher":
        return unbounded(budget.delta)
    return responses_worst_case(settings.n_answers, budget.epsilon, budget.delta)


def _why(settings: PaperSettings) -> str:
    if settings.kind.frozen:
        return "frozen"
    if settings.kind.bound is not None:
        return "answers"
    return "chosen" if settings.candidates == "teacher" else "labels"

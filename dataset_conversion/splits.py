"""Divides patients into training and test, and into the folds of a cross-validation.

A patient is never divided: all cases of one group go together. The order of patients is
that of the SHA-256 of seed and name, so that it looks random, is the same everywhere,
and does not change for the others when a patient is added.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection

from nnunet_cel.dataset_conversion.source import SourceCase

__all__ = ["N_FOLDS", "choose_test_groups", "random_order", "split_into_folds"]

N_FOLDS = 5


def random_order(names: Collection[str], seed: int) -> list[str]:
    """Return names in an order that depends on nothing but the seed."""
    return sorted(
        names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()
    )


def choose_test_groups(
    cases: Collection[SourceCase], fraction: float, seed: int
) -> set[str]:
    """Choose the patients of the test part, with equal shares of each stratum.

    Of n patients the test part gets ``fraction * n``, rounded down at one half, so that
    an odd one goes to training (paper: 24 patients, 1:1). Another seed gives another
    choice.

    Raises:
        ValueError: If the fraction is out of range, or leaves no patient for training
            or none for testing.
    """
    if not 0 <= fraction < 1:
        raise ValueError(
            f"The test fraction must be from 0 to below 1. Got {fraction} instead."
        )
    members = _groups_by_stratum(cases)
    n = sum(map(len, members.values()))
    n_test = math.ceil(fraction * n - 0.5)
    if n_test >= n or (fraction > 0 and n_test < 1):
        raise ValueError(
            f"A test fraction of {fraction} must choose somebody and leave others for "
            f"training. Of {n} patients it chooses {n_test}: name another one, or 0 "
            "for cross-validation alone."
        )
    exact = {stratum: n_test * len(groups) / n for stratum, groups in members.items()}
    shares = {stratum: int(share) for stratum, share in exact.items()}
    ties = {name: i for i, name in enumerate(random_order(list(members), seed))}
    largest_remainder = sorted(
        members, key=lambda stratum: (shares[stratum] - exact[stratum], ties[stratum])
    )
    for stratum in largest_remainder[: n_test - sum(shares.values())]:
        shares[stratum] += 1
    return {
        group
        for stratum, groups in members.items()
        for group in random_order(groups, seed)[: shares[stratum]]
    }


def split_into_folds(
    cases: Collection[SourceCase], seed: int
) -> list[dict[str, list[str]]] | None:
    """Return folds with equal shares of each stratum, for ``splits_final.json``.

    There are five, or as many as there are patients if these are fewer; none for one
    patient, who cannot be split. Each patient is in the validation part of exactly one
    fold. Another seed gives other folds.
    """
    members = _groups_by_stratum(cases)
    sizes = Counter(case.group for case in cases)
    n_folds = min(N_FOLDS, len(sizes))
    if n_folds < 2:
        return None
    fold_of: dict[str, int] = {}
    filled = Counter({fold: 0 for fold in range(n_folds)})
    for stratum in sorted(members):
        of_stratum = Counter({fold: 0 for fold in range(n_folds)})
        order = random_order(members[stratum], seed)
        for group in sorted(order, key=lambda name: -sizes[name]):
            fold = min(filled, key=lambda f: (of_stratum[f], filled[f], f))
            fold_of[group] = fold
            of_stratum[fold] += sizes[group]
            filled[fold] += sizes[group]
    return [
        {
            part: sorted(
                case.identifier
                for case in cases
                if (fold_of[case.group] == fold) == (part == "val")
            )
            for part in ("train", "val")
        }
        for fold in range(n_folds)
    ]


def _groups_by_stratum(cases: Collection[SourceCase]) -> dict[str, list[str]]:
    """Return the groups of each stratum; a group belongs to that of its first case."""
    stratum_of: dict[str, str] = {}
    for case in sorted(cases, key=lambda case: case.identifier):
        stratum_of.setdefault(case.group, case.stratum)
    members = defaultdict(list)
    for group, stratum in sorted(stratum_of.items()):
        members[stratum].append(group)
    return dict(members)

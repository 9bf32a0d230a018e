"""How well discrete codes match classes, for codes that were learned without labels."""

import numpy as np

from .. import backend


def count_pairs(codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the table (codes, classes) of how many examples have each code and each label.

    codes, labels   (n,) whole numbers of at least 0

    Raises ValueError for other arrays.
    """
    backend.check_arrays(codes, labels)
    if (not codes.size or codes.ndim != 1 or codes.shape != labels.shape
            or not {codes.dtype.kind, labels.dtype.kind} <= set("iu")
            or min(codes.min(), labels.min()) < 0):
        raise ValueError("codes and labels are arrays of the same length of at least one whole "
                         f"number of at least 0, got codes {codes.shape} of {codes.dtype} and "
                         f"labels {labels.shape} of {labels.dtype}")
    codes, labels = codes.astype(int), labels.astype(int)      # 255 + 1 is 0 in bytes
    table = np.zeros((codes.max() + 1, labels.max() + 1), int)
    np.add.at(table, (codes, labels), 1)
    return table


def majority_accuracy(table: np.ndarray) -> float:
    """Return the share of examples whose label is the most frequent one of their code.

    `table` is from count_pairs(). Several codes may stand for the same class. Codes that are
    independent of the labels reach the share of the largest class.
    """
    return float(table.max(1).sum() / table.sum())


def one_to_one_accuracy(table: np.ndarray) -> float:
    """Return the largest share of examples whose label is that of their code, one code per class.

    `table` is from count_pairs(). The best assignment is found by dynamic programming over the sets
    of classes that are taken already. Raises ValueError for more than 16 classes.
    """
    classes = table.shape[1]
    if classes > 16:
        raise ValueError(f"the assignment is computed for at most 16 classes, got {classes}")
    sets = np.arange(2 ** classes)      # bit c of a set says whether it has class c
    best = np.zeros(len(sets), int)     # the most examples with classes inside the set
    for row in table:
        without = best                  # the code may stand for no class
        for c, count in enumerate(row):
            has = (sets >> c & 1).astype(bool)
            gained = np.where(has, without[sets & ~(1 << c)] + count, 0)
            best = np.maximum(best, gained)
    return float(best[-1] / table.sum())

"""Measures of the quality of samples, one file each."""

from .classifier import class_shares, classifier_score
from .codes import count_pairs, majority_accuracy, one_to_one_accuracy
from .frechet import frechet_distance
from .mmd import kid
from .modes import count_modes, measure_coverage, measure_stacked
from .nearest import find_nearest, nearest_accuracy
from .parzen import parzen_log_likelihood
from .precision_recall import compute_precision_recall
from .translation import (grey_share, mean_difference, mean_iou, overlap, predict,
                          train_classifier)
from .two_sample import run_two_sample_test

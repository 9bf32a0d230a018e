"""Measures of the quality of samples, one file each."""

from .classifier import class_shares, classifier_score
from .frechet import frechet_distance
from .mmd import kid
from .modes import measure_coverage
from .nearest import find_nearest
from .parzen import parzen_log_likelihood
from .precision_recall import compute_precision_recall
from .two_sample import run_two_sample_test

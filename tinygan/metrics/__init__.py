"""How good samples are: one file for each measure."""

from .classifier import class_shares, classifier_score
from .frechet import frechet
from .mmd import kid
from .modes import coverage
from .nearest import nearest
from .parzen import parzen
from .precision_recall import precision_recall
from .two_sample import two_sample

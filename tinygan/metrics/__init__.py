"""Measures of the quality of samples, one file each.

    frechet, mmd, precision_recall, two_sample   two sets of features: distances, overlap, a test
    classifier                                   features and classes of digits; Inception score
    parzen, nearest                              pixels: likelihoods by windows, nearest images
    modes                                        modes of mixtures and of stacked MNIST
    codes, translation                           InfoGAN's codes, translated images
    path_length                                  how smoothly samples follow their noise
    single_image                                 samples of one image, compared with it

For grey images of 28x28 pixels, such as MNIST's digits:

    from tinygan.metrics import classifier, frechet_distance
    net = classifier.load_classifier()
    a, b = (classifier.classify(net, images).features for images in (samples, test))
    frechet_distance(a, b)

They take arrays of numpy or of the backend. A masked array raises TypeError, and so does an `rng`
that is no Random.
"""

from .classifier import class_shares, classifier_score, predict, train_classifier
from .codes import count_pairs, majority_accuracy, one_to_one_accuracy
from .frechet import frechet_distance
from .mmd import kid
from .modes import count_modes, measure_coverage, measure_stacked
from .nearest import find_nearest, nearest_accuracy
from .parzen import parzen_log_likelihood
from .path_length import measure_path_length
from .precision_recall import compute_precision_recall
from .single_image import measure_diversity, measure_sifid, nearest_rmse
from .translation import grey_share, mean_difference, mean_iou, overlap
from .two_sample import run_two_sample_test

"""Tests of the three convolution functions: values, adjointness, dtypes, error messages.

Their derivatives are tested in test_gradients.py.
"""

import itertools

import numpy as np
import pytest

from tinygan import cpu, im2col
from tinygan.conv import (conv2d, conv_transpose2d, conv_weight, convolve_by_sums, padding_pair,
                          stride_pair)

from helpers import error_of, normal, tensor
from test_gradients import CONVOLUTIONS


def test_a_bias_is_added_to_large_outputs():
    """There numpy gets several pixels in one row, see backend.widen."""
    x, w = tensor(np.zeros((64, 1, 28, 28)), "float32"), tensor(np.zeros((8, 1, 3, 3)), "float32")
    y = conv2d(x, w, tensor(np.arange(8.0), "float32"), padding=1).numpy()
    assert (y == np.arange(8.0)[:, None, None]).all()


def transpose_by_sums(x, w, stride, padding):
    """Return a random y, and its conv_transpose2d with w and conv_weight with x, by their sums."""
    (n_images, c_in, h, v), (c_out, _, kh, kw) = x.shape, w.shape
    (sh, sw), (ph, pw) = stride_pair(stride), padding_pair(padding)
    oh, ow = (h + 2 * ph - kh) // sh + 1, (v + 2 * pw - kw) // sw + 1
    y, dx, dw = normal(n_images, c_out, oh, ow), np.zeros_like(x), np.zeros_like(w)
    for i, j, a, b in itertools.product(range(oh), range(ow), range(kh), range(kw)):
        p, q = sh * i + a - ph, sw * j + b - pw
        if 0 <= p < h and 0 <= q < v:
            for n, o, c in itertools.product(range(n_images), range(c_out), range(c_in)):
                dx[n, c, p, q] += y[n, o, i, j] * w[o, c, a, b]
                dw[o, c, a, b] += y[n, o, i, j] * x[n, c, p, q]
    return y, dx, dw


def find_output_padding(x, y, w, stride, padding):
    """Return the output_padding with which conv_transpose2d(y, w) has the size of x."""
    return tuple(n - ((m - 1) * s - 2 * p + k) for n, m, k, s, p in
                 zip(x.shape[2:], y.shape[2:], w.shape[2:], stride_pair(stride),
                     padding_pair(padding)))


@pytest.mark.parametrize("c_in, c_out", [(2, 4), (1, 3), (3, 1), (8, 2)])
@pytest.mark.parametrize("image, kernel, stride, padding", CONVOLUTIONS)
def test_the_three_convolutions_equal_their_sums(image, kernel, stride, padding, c_in, c_out):
    x, w = normal(3, c_in, *image), normal(c_out, c_in, *kernel, seed=1)
    out = convolve_by_sums(x, w, stride, padding)
    y, dx, dw = transpose_by_sums(x, w, stride, padding)
    extra = find_output_padding(x, y, w, stride, padding)
    x, w, y = tensor(x), tensor(w), tensor(y)
    # float64: sums of at most a few hundred products of numbers of size 1
    close = dict(rtol=0, atol=1e-12)
    np.testing.assert_allclose(conv2d(x, w, None, stride, padding).numpy(), out, **close)
    np.testing.assert_allclose(conv_transpose2d(y, w, None, stride, padding, extra).numpy(), dx,
                               **close)
    np.testing.assert_allclose(
        conv_weight(x, y, kernel, stride_pair(stride), padding_pair(padding)).numpy(), dw, **close)


@pytest.mark.numpy_only("on a GPU several channels are copied as one number")
@pytest.mark.parametrize("kernel, padding", [((3, 4), (1, 0)), ((1, 1), (0, 0)), ((4, 3), (2, 1))])
@pytest.mark.parametrize("c_in, c_out", [(16, 1), (1, 16), (16, 16)])
def test_with_stride_1_the_smaller_windows_are_copied_or_added(monkeypatch, c_in, c_out, kernel,
                                                               padding):
    """The windows of images have c_in numbers for each place in the kernel, those of outputs c_out.

    A convolution to few channels adds up windows instead. With a kernel of one pixel the windows
    are the images.
    """
    x, w = tensor(normal(2, c_in, 6, 7)), tensor(normal(c_out, c_in, *kernel, seed=1))
    found, copy, add = [], im2col._copy_windows, im2col._add_products

    def record(x, height, width, channels, *args):
        found.append(channels)
        copy(x, height, width, channels, *args)
    monkeypatch.setattr(im2col, "_copy_windows", record)
    monkeypatch.setattr(im2col, "_add_products", lambda *args: found.append("sums") or add(*args))
    y = conv2d(x, w, None, 1, padding)
    assert found == ([] if kernel == (1, 1) else ["sums" if c_out == 1 else c_in])
    found.clear()
    conv_transpose2d(y, w, None, 1, padding)
    assert found == ([] if kernel == (1, 1) else ["sums" if c_in == 1 else c_out])
    found.clear()
    gradient = conv_weight(x, y, kernel, (1, 1), padding)
    assert found == ([] if kernel == (1, 1) else [min(c_in, c_out)])
    assert gradient.data.transpose(2, 3, 1, 0).flags.c_contiguous       # as layers' weights


@pytest.mark.numpy_only("on a GPU several channels are copied as one number")
@pytest.mark.parametrize("c_in, c_out", [(16, 12), (12, 16)])
def test_the_weights_gradient_copies_windows_of_the_fewer_channels(monkeypatch, c_in, c_out):
    found, copy = [], im2col._copy_windows
    monkeypatch.setattr(im2col, "_copy_windows", lambda *args: found.append(args[3]) or copy(*args))
    conv_weight(tensor(normal(2, c_in, 6, 6)), tensor(normal(2, c_out, 6, 6)), (3, 3), (1, 1),
                (1, 1))
    assert found == [12]


@pytest.mark.numpy_only("the other ways are only faster on a CPU")
def test_windows_are_copied_for_one_pixel_and_planes_are_not_mostly_empty(monkeypatch):
    """A large kernel made planes of kh kw pixels for each pixel of the result."""
    def refuse(*args):
        raise AssertionError("windows are added as planes")
    monkeypatch.setattr(im2col, "_add_products", refuse)
    x, w = normal(2, 64, 4, 4), normal(1, 64, 4, 4, seed=1)
    # float64: sums of about a thousand products of numbers of size 1
    y = conv2d(tensor(x), tensor(w)).numpy()
    np.testing.assert_allclose(y, convolve_by_sums(x, w), rtol=0, atol=1e-12)
    monkeypatch.setattr(im2col, "_copy_windows", refuse)
    z, v = normal(2, 9, 1, 1, seed=2), normal(9, 1, 16, 16, seed=3)
    large = conv_transpose2d(tensor(z), tensor(v)).numpy()
    np.testing.assert_allclose(large, np.einsum("noij,ocab->ncab", z, v), rtol=0, atol=1e-12)


def test_images_without_channels_have_a_convolution():
    for c, o in ((4, 0), (0, 4)):
        for kernel, size in (3, (3, 4)), (1, (5, 6)):
            x, w = tensor(np.ones((2, c, 5, 6))), tensor(np.ones((o, c, kernel, kernel)))
            y = conv2d(x, w)
            assert y.shape == (2, o, *size) and not y.numpy().any()
            assert conv_transpose2d(y, w).shape == x.shape
            assert conv_weight(x, y, (kernel, kernel), (1, 1), (0, 0)).shape == w.shape


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_a_bias_is_added_to_each_channel(channels, stride):
    """The result with a bias is the result without it, plus a number for each channel."""
    b = normal(channels, seed=3)
    x, w, v = (tensor(a) for a in (normal(2, 3, 5, 4), normal(channels, 3, 2, 2, seed=1),
                                   normal(3, channels, 2, 2, seed=2)))
    for f, kernel in ((conv2d, w), (conv_transpose2d, v)):
        difference = f(x, kernel, tensor(b), stride).numpy() - f(x, kernel, None, stride).numpy()
        assert abs(difference - b[:, None, None]).max() < 1e-13        # float64


def test_a_bias_of_another_shape_is_refused():
    """One number, or one for each sample, would be added too, but have a gradient of that shape."""
    x, w, v = tensor(normal(2, 3, 5, 4)), tensor(normal(4, 3, 2, 2)), tensor(normal(3, 4, 2, 2))
    for f, kernel in (conv2d, w), (conv_transpose2d, v):
        for shape in (1,), (4, 1, 1), (2, 4, 1, 1), (3,):
            with pytest.raises(ValueError, match=r"bias of 4 outputs has shape \(4,\), got"):
                f(x, kernel, tensor(np.ones(shape)))


def test_the_three_convolutions_are_adjoint():
    """<conv2d(x, w), y> = <x, conv_transpose2d(y, w)> = <w, conv_weight(x, y)>."""
    random = np.random.default_rng(0)
    for trial in range(200):
        kernel, stride = random.integers(1, 6, 2), random.integers(1, 4, 2)
        padding, image = random.integers(0, 4, 2), random.integers(1, 10, 2)
        if (image + 2 * padding < kernel).any():
            continue
        c_in = 1 + 7 * (trial % 2)      # conv_transpose2d computes few channels in another way
        x, w = normal(2, c_in, *image, seed=trial), normal(2, c_in, *kernel, seed=trial + 1)
        y = conv2d(tensor(x), tensor(w), None, stride.tolist(), padding.tolist())
        c = normal(*y.shape, seed=trial + 2)
        extra = find_output_padding(x, c, w, stride.tolist(), padding.tolist())
        dx = conv_transpose2d(tensor(c), tensor(w), None, stride.tolist(), padding.tolist(),
                              extra)
        dw = conv_weight(tensor(x), tensor(c), tuple(kernel), tuple(stride), tuple(padding))
        t = (y.numpy() * c).sum()
        assert abs((dw.numpy() * w).sum() - t) < 1e-10      # float64: about 1e3 terms of size 1
        assert abs((dx.numpy() * x).sum() - t) < 1e-10


@pytest.mark.parametrize("padding, output_padding", [(0, 0), (1, 0), (1, 1), (2, (1, 2))])
def test_output_size_of_the_transposed_convolution(padding, output_padding):
    y, w = tensor(normal(1, 2, 4, 5)), tensor(normal(2, 3, 5, 4))
    height, width = padding_pair(output_padding)
    expected = (1, 3, 3 * 3 - 2 * padding + 5 + height, 4 * 3 - 2 * padding + 4 + width)
    assert conv_transpose2d(y, w, None, 3, padding, output_padding).shape == expected


def test_memory_order_of_the_input_does_not_matter():
    x, w = normal(2, 3, 6, 6), tensor(normal(4, 3, 3, 3))
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    a = conv2d(tensor(x), w, None, 2, 1).numpy()
    b = conv2d(tensor(channels_last).transpose(0, 3, 1, 2), w, None, 2, 1).numpy()
    assert (a == b).all()


@pytest.mark.numpy_only("only the CPU divides the batch")
def test_results_do_not_depend_on_cache_size_and_threads(monkeypatch):
    """The results are the same bit for bit on any number of threads.

    The size of the cache determines into how many pieces a batch is divided. It changes only the
    order in which the weight gradient adds the pieces.
    """
    x, w, y = normal(7, 3, 6, 6), normal(4, 3, 3, 3), normal(7, 4, 3, 3)

    def results(cache, threads):
        monkeypatch.setattr(cpu, "CACHE", cache)
        monkeypatch.setattr(cpu, "THREADS", threads)
        return [conv2d(tensor(x), tensor(w), None, 2, 1).numpy(),
                conv_transpose2d(tensor(y), tensor(w), None, 2, 1).numpy(),
                conv_weight(tensor(x), tensor(y), (3, 3), (2, 2), (1, 1)).numpy()]
    for cache in (1, 3000, 1 << 30):
        for a, b in zip(results(cache, 1), results(cache, 3)):
            assert (a == b).all()
        for a, b in zip(results(cache, 1), results(1 << 30, 1)):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_float32_stays_float32():
    x, w = tensor(normal(2, 3, 6, 6), "float32"), tensor(normal(4, 3, 3, 3), "float32")
    y = conv2d(x, w, None, 2, 1)
    assert y.dtype == conv_transpose2d(y, w, None, 2, 1).dtype == np.float32
    assert conv_weight(x, y, (3, 3), (2, 2), (1, 1)).dtype == np.float32


@pytest.mark.parametrize("call, words", [
    (lambda x, w: conv2d(x, w, padding=-1), ["a padding is at least 0", "(-1, -1)"]),
    (lambda x, w: conv2d(x, w, stride=0), ["a stride is at least 1", "(0, 0)"]),
    (lambda x, w: conv2d(x, w[:, :, :0]), ["a kernel is at least 1x1", "(0, "]),
    (lambda x, w: conv2d(x[:, :1], w), ["(N, 2, H, W)", "(1, 1, 3, 4)"]),
    (lambda x, w: conv2d(x[0], w), ["(N, 2, H, W)", "(2, 3, 4)"]),
    (lambda x, w: conv2d(x, w), ["(5, 3)", "(3, 4)"]),
    (lambda x, w: conv_transpose2d(x, w), ["(N, 3, H, W)", "(1, 2, 3, 4)"]),
    (lambda x, w: conv_transpose2d(x, w.transpose(1, 0, 2, 3), None, 1, 0, 1),
     ["output_padding", "(1, 1)"]),
    (lambda x, w: conv_transpose2d(x, w.transpose(1, 0, 2, 3), None, 1, 4),
     ["padding (4, 4)", "(-1, -2)"]),
])
def test_error_messages_name_the_values(call, words):
    message = error_of(call, tensor(normal(1, 2, 3, 4)), tensor(normal(3, 2, 5, 3)))
    assert all(word in message for word in words), message

"""check_grads: are the derivatives right? In float64, along random directions, to any order.

For y = f(x) and a random cotangent c, grad() claims to give c^T dy/dx. Along a random direction d,

    <c^T dy/dx, d>  =  d/dt <c, f(x + t d)>  at t = 0,

and the right side is measured by evaluating f. What grad() computed is itself a function of x and
of c, built of the same operations: checking *its* derivatives in the same way is the check of
second order, and so on.
"""

import copy

import numpy as np

from . import backend
from .backend import Random
from .nn import Module, drawing_from
from .tensor import Tensor, grad


def check_grads(f, *arrays, order=2, tolerance=1e-6, seed=0):
    """Check the derivatives of f at `arrays` up to `order`; nothing is returned if they are right.

    f          a function of Tensors that returns a Tensor or a tuple of them; or a Module: then its
               parameters are checked too, on a float64 copy in which they are a little off their
               values (a bias of exactly 0 likes to sit on a kink), and every call sees the same
               dropout masks and buffers
    arrays     floats, each taken to float64 and checked; others (labels) go to f as they are
    order      1 checks grad() itself, 2 double backprop as well, ...
    tolerance  the largest allowed |claimed - measured|, relative to the norm of the gradient, and
               beyond what rounding may do to the measurement

    A kink between two points of measurement (a ReLU's 0) is noticed, and closer points are taken.
    Raises AssertionError naming the input, the order and both values, or the input on a kink.
    """
    random = Random(seed)
    arrays = [a.data if type(a) is Tensor else backend.xp.asarray(
        np.asarray(a, "float64") if isinstance(a, (int, float, list)) else a) for a in arrays]
    names = [f"input {i}" for i in range(len(arrays))]
    if isinstance(f, Module):
        f, parameters = _as_function(f, len(arrays), random)
        arrays += parameters.values()
        names += parameters
    checked = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    if not checked:
        raise ValueError("check_grads needs at least one array of floats to differentiate by")

    def of_floats(*xs):
        inputs = list(arrays)
        for i, x in zip(checked, xs):
            inputs[i] = x
        ys = f(*inputs)
        return ys if isinstance(ys, (tuple, list)) else (ys,)
    _check(of_floats, [arrays[i].astype("float64") for i in checked], [names[i] for i in checked],
           1, order, tolerance, random)


def _check(f, xs, names, this_order, order, tolerance, random):
    n = len(xs)

    def vjp(*inputs):
        xs, cs = inputs[:n], inputs[n:]
        total = sum((y * c).sum() for y, c in zip(f(*xs), cs))
        return grad(total, xs, create_graph=True, unused="zeros")

    ys = f(*map(Tensor, xs))
    cs = [random.normal(y.shape).astype("float64") for y in ys]
    magnitude = sum(float(abs(y.data * c).sum()) for y, c in zip(ys, cs))
    claims = vjp(*map(Tensor, xs + cs))
    for i, (name, x, claim) in enumerate(zip(names, xs, claims)):
        # each number moves by the same amount, so that none can hide
        d = random.bernoulli(0.5, x.shape).astype("float64") * 2 - 1

        def along(t):
            ys = f(*map(Tensor, xs[:i] + [x + t * d] + xs[i + 1:]))
            return sum(float((y.data * c).sum()) for y, c in zip(ys, cs))
        if claim.shape != x.shape:
            raise AssertionError(f"order {this_order}, {name}: the gradient has shape "
                                 f"{claim.shape}, the input {x.shape}")
        if not backend.xp.isfinite(claim.data).all():
            raise AssertionError(f"order {this_order}, {name}: the gradient is not finite")
        claimed = float((claim.data * d).sum())
        scale = float((claim.data * claim.data).sum()) ** 0.5
        measured, accuracy = _slope(along, magnitude, tolerance * scale,
                                    f"order {this_order}, {name}")
        if not abs(claimed - measured) <= tolerance * max(scale, abs(measured)) + accuracy:
            raise AssertionError(
                f"order {this_order}, {name} (shape {x.shape}): the derivative is {measured:.9g} "
                f"as measured, {claimed:.9g} by its rule: off by {abs(claimed - measured):.2g}, "
                f"{abs(claimed - measured) / (max(scale, abs(measured)) or 1):.2g} of the "
                "gradient's norm")
    if this_order < order:
        cotangents = [f"the cotangent of order {this_order}"] * len(cs)
        _check(vjp, xs + cs, names + cotangents, this_order + 1, order, tolerance, random)


def _slope(f, magnitude, tolerance, where):
    """f'(0) by central differences, and the accuracy that rounding allows it, for an f that is a
    sum of terms whose sizes add up to `magnitude`."""
    for h in (1e-4, 1e-5, 1e-6, 1e-7):
        accuracy = 4e-15 * magnitude / h
        left, half_left, middle, half_right, right = (f(t) for t in (-h, -h / 2, 0.0, h / 2, h))
        slope, half_slope = (right - left) / (2 * h), (half_right - half_left) / h
        # The difference of the slopes on both sides: for a smooth f it halves with h.
        bend = (right + left - 2 * middle) / h
        half_bend = (half_right + half_left - 2 * middle) / (h / 2)
        roughness = abs(slope - half_slope) + abs(bend - 2 * half_bend)
        if not roughness > tolerance + accuracy:
            return half_slope, accuracy
    raise AssertionError(f"{where}: the function is not smooth at this input (the slopes on its "
                         f"two sides are {bend:.2g} apart): move the input off the kink, or make "
                         "the function give the same values at every call")


def _as_function(module, n_inputs, random):
    """A function (inputs..., parameters...) -> module(inputs), and {name: array} of parameters."""
    module = copy.deepcopy(module)
    places, buffers = {}, []
    for prefix, part in module.modules():
        for name, value in vars(part).items():
            if type(value) is Tensor:
                places.setdefault(value, []).append((part, name, prefix))
            elif isinstance(value, backend.xp.ndarray):
                floats = value.dtype.kind == "f"
                buffers.append((part, name, value.astype("float64") if floats else value))

    def f(*inputs):
        for parameter, owners in zip(inputs[n_inputs:], places.values()):
            for part, name, _ in owners:
                setattr(part, name, parameter)
        for part, name, value in buffers:
            setattr(part, name, value.copy())
        with drawing_from(Random(0)):
            return module(*inputs[:n_inputs])
    return f, {f"parameter {owners[0][2]}{owners[0][1]}": p.data + 0.01 * random.normal(p.shape)
               for p, owners in places.items()}

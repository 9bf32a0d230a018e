"""Check gradients of any order against finite differences, in float64.

For y = f(x) and a random array c of y's shape, the cotangent, grad() returns c^T dy/dx. Along a
random direction d,

    <c^T dy/dx, d>  =  d/dt <c, f(x + t d)>  at t = 0.

check_grads() computes the left side by grad() and measures the right side by evaluating f. The
function (x, c) -> c^T dy/dx consists of differentiable operations too. Checking its derivatives in
the same way is the check of second order, and so on.

The entries of c and d have random signs and different sizes from 0.5 to 1.5. So every entry of the
gradient contributes, and the errors of several entries do not cancel. With entries of +-1, a mean
without its factor 1/n, or a gradient with two entries exchanged, would pass for some signs.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import backend
from .nn import Module, substitute, use_random
from .nn.module import find_names
from .numbers import check_whole, is_real
from .random import Random
from .tensor import DtypeError, Tensor, ancestors, grad

ADVICE = ("pass it as an input, give check_grads the Module that holds it, or use its array, "
          "x.data, if it is a constant")


def check_grads(f: Callable, *arrays: Any, order: int = 2, tolerance: float = 1e-7, seed: int = 0,
                training: bool | None = None) -> None:
    """Check the derivatives of f at `arrays` up to `order`; raise AssertionError if one is wrong.

    f          a function of Tensors that returns a Tensor or a tuple of Tensors, or a Module
    arrays     the inputs: arrays of floats, numbers and lists are converted to float64 and
               checked; other arrays, such as labels, are passed to f as they are
    order      1 checks grad(), 2 checks double backprop too, and so on
    tolerance  the largest allowed difference between the claimed and the measured derivative,
               relative to the norm of the gradient, or to the measured derivative if that is
               larger; the rounding error of the measurement is allowed in addition
    training   True checks a Module in training mode, False in evaluation mode, None in both

    A Module's parameters are checked too, on a float64 copy of the Module. The copy's parameters
    are changed a little at random, because initial values such as a bias of 0 often lie on a kink.
    Each call of the copy uses the same dropout masks and buffers. A batch of one example is
    extended to two if the Module accepts that, since a rule that does not sum over the batch is
    right for one example. Layers under nn.spectral_norm are checked in evaluation mode only: in
    training mode, each call would change u and v, which their derivative treats as constants.

    If the measurement meets a kink (such as a ReLU's at 0), it is repeated with smaller steps.

    The AssertionError names the input, the order and both values, or the input that lies on a kink.
    Raises ValueError if there is nothing to check. Raises TypeError for a masked array, and if f
    computes with a leaf that is neither an input nor a parameter of the Module, because its
    gradient would not be checked. A wrong derivative passes if rounding hides its effect on f.
    """
    if isinstance(f, type) or not callable(f):
        raise TypeError(f"check_grads takes a function or a Module, got {f!r:.60}"
                        + (": make one, as in nn.ReLU()" if isinstance(f, type) else ""))
    check_whole(order, 1, "the order of derivatives")
    if training not in (None, True, False):
        raise ValueError(f"training is True, False or None (both), got {training!r}")
    generator = np.random.default_rng(seed)
    backend.refuse_masked(*arrays)
    arrays = [a.data if type(a) is Tensor else backend.xp.asarray(
        np.asarray(a, "float64") if is_real(a) or isinstance(a, list) else a) for a in arrays]
    arrays = [a.astype("float64") if a.dtype.kind == "f" else a for a in arrays]
    names = [f"input {i}" for i in range(len(arrays))]
    if not isinstance(f, Module):
        _check_function(f, arrays, names, "", order, tolerance, generator)
        return
    for mode in (True, False) if training is None else (training,):
        function, parameters, changed = _as_function(f, mode, len(arrays), generator)
        inputs = _make_batch_of_two(function, arrays, list(parameters.values()), generator)
        try:
            _check_function(function, inputs + list(parameters.values()), names + list(parameters),
                            ", in training" if mode else ", in evaluation", order, tolerance,
                            generator)
        except AssertionError as error:
            if not changed:
                raise
            raise AssertionError(f"{error} (forward changes the buffers "
                                 f"{', '.join(sorted(changed))}: if its result depends on them and "
                                 "its derivative treats them as constants, check with "
                                 f"training={not mode})") from None


def _check_function(f, arrays, names, mode, order, tolerance, generator):
    checked = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    if not sum(arrays[i].size for i in checked):
        raise ValueError("check_grads needs at least one array of floats to differentiate by, and "
                         "one number in it")

    def of_floats(*xs):
        inputs = list(arrays)
        for i, x in zip(checked, xs):
            inputs[i] = x
        ys = f(*inputs)
        return ys if isinstance(ys, (tuple, list)) else (ys,)
    xs, names = [arrays[i] for i in checked], [names[i] for i in checked]
    try:
        of_floats(*map(Tensor, xs))         # a first call, for functions that cache Tensors
        inputs = [Tensor(x) for x in xs]
        ys = of_floats(*inputs)
    except DtypeError as error:
        raise TypeError(f"{error} (the inputs of check_grads are float64; f may use a float32 "
                        f"Tensor of its own, which would not be checked: {ADVICE})") from None
    for y in ys:
        if type(y) is not Tensor:
            raise TypeError(f"f returns a Tensor or a tuple of Tensors, got {type(y).__name__}")
    for t in ancestors(ys):
        if t.parents == () and t.age < inputs[0].age:       # a leaf that was made before this call
            raise TypeError(f"f computes with a Tensor of shape {t.shape} that is not among its "
                            f"inputs, so its gradient would not be checked: {ADVICE}")
    _check(of_floats, xs, names, mode, 1, order, tolerance, generator)


def _check(f, xs, names, mode, this_order, order, tolerance, generator, noise_before=0.0):
    """Check the derivatives of f at xs for `this_order` and, recursively, up to `order`."""
    n = len(xs)

    def vjp(*inputs):
        xs, cs = inputs[:n], inputs[n:]
        total = sum((y * c).sum() for y, c in zip(f(*xs), cs))
        # by `inputs` and not only xs: grad() raises an error for a total that depends on no x if f
        # returns an unrecorded constant, but every total depends on cs
        return grad(total, inputs, create_graph=True, unused="zeros")[:n]

    ys = f(*map(Tensor, xs))
    cs = [_draw_direction(generator, y.shape) for y in ys]
    middle = _project(ys, cs)
    claims = vjp(*map(Tensor, xs + cs))
    largest = max([float(abs(x).max()) for x in xs if x.size], default=1.0)
    noise = _estimate_rounding(f, xs, cs, ys, claims, largest, noise_before)
    for i, (name, x, claim) in enumerate(zip(names, xs, claims)):
        where = f"order {this_order}, {name} (shape {x.shape}{mode})"
        if not backend.xp.isfinite(claim.data).all():
            raise AssertionError(f"{where}: the gradient is not finite")
        d = _draw_direction(generator, x.shape)

        def along(t):
            return _project(f(*map(Tensor, xs[:i] + [x + t * d] + xs[i + 1:])), cs)
        claimed = float((claim.data * d).sum())
        with np.errstate(over="ignore"):
            scale = float((claim.data * claim.data).sum()) ** 0.5
        if not math.isfinite(scale):
            raise AssertionError(f"{where}: the gradient is too large to be checked: scale f or "
                                 "its inputs down")
        with np.errstate(all="ignore"):         # a step may leave the function's domain
            measured, accuracy = _measure_slope(along, middle, max(largest, 1.0), noise, tolerance,
                                                scale, where)
        if not abs(claimed - measured) <= tolerance * max(scale, abs(measured)) + accuracy:
            raise AssertionError(
                f"{where}: the derivative is {measured:.9g} as measured, {claimed:.9g} by its "
                f"rule: off by {abs(claimed - measured):.2g}, "
                f"{abs(claimed - measured) / (max(scale, abs(measured)) or 1):.2g} of the "
                "gradient's norm")
    if this_order < order:
        cotangents = [f"the cotangent of order {this_order}"] * len(cs)
        _check(vjp, xs + cs, names + cotangents, mode, this_order + 1, order, tolerance, generator,
               noise)


def _project(ys, cs):
    """Return <c, y>, the sum of the products of all numbers of ys and cs."""
    return sum(float((y.data * c).sum()) for y, c in zip(ys, cs))


def _estimate_rounding(f, xs, cs, ys, claims, largest, noise_before):
    """Return an estimate of the rounding error of <c, f(x)>, with a margin.

    Each output and each input is off by about 1e-16 of its size. At higher orders f is a gradient,
    which has the rounding error of the order before as well, `noise_before`. If the largest input
    is below 1, a gradient may be as large as its function divided by the input, as that of log x.
    """
    noise = noise_before / (min(largest, 1.0) or 1.0) + 4e-15 * sum(
        float(abs(a.data * b).sum()) for a, b in zip([*ys, *claims], cs + xs))
    # Outputs that are 0 but for rounding, such as those of x - x / 3 * 3, are nothing but error. A
    # second difference with a tiny step measures it: of a smooth f, that is only some 1e-18.
    if sum(float(abs(y.data * c).sum()) for y, c in zip(ys, cs)) < 1e-9 * max(largest, 1.0):
        near = [f(*[Tensor(x * t) for x in xs]) for t in (1 + 1e-9, 1 - 1e-9)]
        noise = max(noise, 10 * sum(float(abs((a.data + b.data - 2 * y.data) * c).sum())
                                    for a, b, y, c in zip(*near, ys, cs)))
    return noise


def _draw_direction(generator, shape):
    """Return float64 numbers with random signs and sizes from U(0.5, 1.5)."""
    return backend.xp.asarray(generator.uniform(0.5, 1.5, shape) * generator.choice([-1, 1], shape))


def _measure_slope(f, middle, size, noise, tolerance, scale, where):
    """Measure f'(0) by central differences; return it and its accuracy.

    middle  f(0)
    size    the size of the inputs
    noise   the rounding error of f; the rounding error of a slope with step h is noise / h
    scale   the norm of the claimed gradient

    The step h shrinks from `widest` until the slopes of steps h and h/2 agree. If none agree, two
    wider steps are tried, for functions with a larger rounding error than `noise`. If these fail
    too, the best slope is returned if it is accurate to 1e-4 of `scale`; if not, this raises.
    """
    # the widest step: below the inputs' size, but wide enough that f's change exceeds the noise
    widest = size * 1e-4
    if scale:
        widest = min(max(noise / (tolerance * scale), widest), 1e3 * widest)
    best = math.inf, None       # (the accuracy of the best slope so far, that slope)
    worst = 0.0                 # the largest roughness so far, see below
    first = None                # (|slope|, |bend|) of the widest step in the function's domain
    for h in [widest * 0.1 ** k for k in range(15)] + [10 * widest, 100 * widest]:
        rounding = noise / h
        left, half_left, half_right, right = (f(t) for t in (-h, -h / 2, h / 2, h))
        slope, half_slope = (right - left) / (2 * h), (half_right - half_left) / h
        # the difference between the right and the left slope: for a smooth f it halves with h
        bend = (right + left - 2 * middle) / h
        half_bend = (half_right + half_left - 2 * middle) / (h / 2)
        roughness = abs(slope - half_slope) + abs(bend - 2 * half_bend)
        if not math.isfinite(roughness):        # the step left the function's domain
            continue
        first = first or (abs(slope), abs(bend))
        # If rounding can hide a thousandth of the slope, two slopes may agree by chance. They count
        # only if the roughness found with a wider step would still stand out from the rounding.
        blind = h < 1e-3 * widest and rounding > 1e-3 * max(scale, abs(half_slope))
        if roughness <= tolerance * abs(half_slope) + rounding:
            if not blind or rounding <= 0.1 * worst:
                return half_slope, rounding
        if not blind:
            # the claim is 0, and the slope vanishes with h, as that of x^4 does at 0
            if scale == 0 and abs(slope) + abs(bend) <= tolerance * sum(first):
                return 0.0, rounding
            worst = max(worst, roughness)
            best = min(best, (roughness + rounding, half_slope))
    if first is None:
        raise AssertionError(f"{where}: the function is not finite near this input: move the input "
                             "into the function's domain")
    if best[0] <= 1e-4 * scale:
        return best[1], best[0]
    raise AssertionError(f"{where}: the function is not smooth at this input (the slopes on its "
                         f"two sides are {first[1]:.2g} apart): move the input off the kink, or "
                         "make the function give the same values at every call")


def _as_function(module, training, n_inputs, generator):
    """Return a copy of the module as a function f(inputs..., parameters...).

    Also return {name: array} of its parameters, and a set that collects the names of the buffers
    that calls of f change.
    """
    module = copy.deepcopy(module)
    parameters, names = module.parameters(), find_names(module)
    buffers, changed = [], set()
    for prefix, part in module.modules():
        part.training = training and not hasattr(part, "weight_u")      # under spectral_norm
        for name, value in vars(part).items():
            if isinstance(value, backend.xp.ndarray) and name not in part._stored:
                floats = value.dtype.kind == "f"
                value = value.astype("float64") if floats else value
                buffers.append((part, name, value, f"{prefix}{name}"))

    def f(*inputs):
        for part, name, value, _ in buffers:
            setattr(part, name, value.copy())
        with use_random(Random(0)), substitute(module, dict(zip(parameters, inputs[n_inputs:]))):
            y = module(*inputs[:n_inputs])
        for part, name, value, full in buffers:
            now = getattr(part, name)
            if getattr(now, "shape", None) != value.shape or (now != value).any():
                changed.add(full)
        return y
    return f, {f"parameter {names[p]}": p.data.astype("float64") + 0.01 * backend.xp.asarray(
        generator.standard_normal(p.shape)) for p in parameters}, changed


def _make_batch_of_two(f, arrays, parameters, generator):
    """Return the inputs with a second example, close to the first, added to each batch of one.

    Return `arrays` unchanged if the first of them is not a batch of one or f does not accept two.
    """
    if not arrays or arrays[0].shape[:1] != (1,):
        return arrays

    def twice(a):
        near = backend.xp.asarray(generator.uniform(0.9, 1.1, a.shape))
        return backend.xp.concatenate([a, a * near if a.dtype.kind == "f" else a])
    two = [twice(a) if a.shape[:1] == (1,) else a for a in arrays]
    try:
        f(*(Tensor(a) if a.dtype.kind == "f" else a for a in two + parameters))
    except Exception:       # a Module may raise anything for a batch size that it does not accept
        return arrays
    return two

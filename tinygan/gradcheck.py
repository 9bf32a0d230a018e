"""check_grads: are the derivatives right? In float64, along random directions, to any order.

For y = f(x) and a random cotangent c, grad() claims to give c^T dy/dx. Along a random direction d,

    <c^T dy/dx, d>  =  d/dt <c, f(x + t d)>  at t = 0,

and the right side is measured by evaluating f. What grad() computed is itself a function of x and
of c, built of the same operations: checking *its* derivatives in the same way is the check of
second order, and so on.

The entries of c and d have random signs and sizes from 0.5 to 1.5, no two the same. So no entry can
hide, and errors of several entries do not cancel: with entries of +-1, a mean that forgets its 1/n,
or a gradient with two entries exchanged, would pass whenever the signs happen to add up.
"""

import copy
import math

import numpy as np

from . import backend
from .nn import Module, drawing_from
from .random import Random
from .tensor import DtypeError, Tensor, grad

HELD = ("pass it as an input, give check_grads the Module that holds it, or use its array, x.data, "
        "if it is a constant")


def check_grads(f, *arrays, order=2, tolerance=1e-7, seed=0, training=None):
    """Check the derivatives of f at `arrays` up to `order`; nothing is returned if they are right.

    f          a function of Tensors that returns a Tensor or a tuple of them; or a Module: then its
               parameters are checked too, on a float64 copy in which they are a little off their
               values (a bias of exactly 0 likes to sit on a kink), and every call sees the same
               dropout masks and buffers
    arrays     floats, each taken to float64 and checked; others (labels) go to f as they are
    order      1 checks grad() itself, 2 double backprop as well, ...
    tolerance  the largest allowed |claimed - measured|, relative to the norm of the gradient, and
               beyond what rounding may do to the measurement
    training   True or False checks a Module in training or in evaluation alone, None in both

    A Module is checked on a batch of two where it is given a batch of one and takes two: a rule
    that forgets to sum over the batch is right for one. Layers under nn.spectral_norm are checked
    as they are in evaluation, also in training: u and v are constants to their derivative, and a
    power iteration would move them with the weights.

    A kink between two points of measurement (a ReLU's 0) is noticed, and closer points are taken.
    Raises AssertionError naming the input, the order and both values, or the input on a kink;
    ValueError if there is nothing to check; TypeError if f computes with a leaf that is neither an
    input nor a Module's parameter, whose gradient would go unchecked. A slope of less than 1e-11 of
    the function's values is hidden by rounding and passes.
    """
    if training not in (None, True, False):
        raise ValueError(f"training is True, False or None (both), got {training!r}")
    generator = np.random.default_rng(seed)
    arrays = [a.data if type(a) is Tensor else backend.xp.asarray(
        np.asarray(a, "float64") if isinstance(a, (int, float, list)) else a) for a in arrays]
    arrays = [a.astype("float64") if a.dtype.kind == "f" else a for a in arrays]
    names = [f"input {i}" for i in range(len(arrays))]
    if not isinstance(f, Module):
        _check_function(f, arrays, names, "", order, tolerance, generator)
        return
    for mode in (True, False) if training is None else (training,):
        function, parameters, moved = _as_function(f, mode, len(arrays), generator)
        inputs = _of_two(function, arrays, list(parameters.values()), generator)
        try:
            _check_function(function, inputs + list(parameters.values()), names + list(parameters),
                            ", in training" if mode else ", in evaluation", order, tolerance,
                            generator)
        except AssertionError as error:
            if not moved:
                raise
            raise AssertionError(f"{error} (forward moves the buffers {', '.join(sorted(moved))}: "
                                 "if its result depends on them and they are constants to its "
                                 f"derivative, check with training={not mode})") from None


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
        of_floats(*map(Tensor, xs))         # once before, for a function that keeps what it makes
        inputs = [Tensor(x) for x in xs]
        ys = of_floats(*inputs)
    except DtypeError as error:
        raise TypeError(f"{error} (the inputs of check_grads are float64, what f holds itself may "
                        f"be float32, and would go unchecked: {HELD})") from None
    if (found := _held(ys, inputs)) is not None:
        raise TypeError(f"f computes with a Tensor of shape {found.shape} that is not among its "
                        f"inputs, so that its gradient would go unchecked: {HELD}")
    _check(of_floats, xs, names, mode, 1, order, tolerance, generator)


def _held(ys, inputs):
    """Return a leaf that ys were computed from and that is older than the inputs, or None."""
    seen, stack, born = set(inputs), list(ys), min(x.age for x in inputs)
    while stack:
        t = stack.pop()
        if type(t) is not Tensor:
            raise TypeError(f"f returns a Tensor or a tuple of Tensors, got a {type(t).__name__}")
        if t not in seen:
            seen.add(t)
            if t.parents == () and t.age < born:
                return t
            stack += [parent for parent, _ in t.parents or ()]
    return None


def _check(f, xs, names, mode, this_order, order, tolerance, generator, noise_before=0.0):
    n = len(xs)

    def vjp(*inputs):
        xs, cs = inputs[:n], inputs[n:]
        total = sum((y * c).sum() for y, c in zip(f(*xs), cs))
        return grad(total, xs, create_graph=True, unused="zeros")

    ys = f(*map(Tensor, xs))
    cs = [_direction(generator, y.shape) for y in ys]
    claims = vjp(*map(Tensor, xs + cs))
    # Rounding moves the result as if each output and each input were off by 1e-16 of its size; and
    # the gradient of a function that is rounded has that rounding too.
    largest = max([float(abs(x).max()) for x in xs if x.size], default=1.0)
    noise = noise_before / (min(largest, 1.0) or 1.0) + 4e-15 * sum(
        float(abs(a.data * b).sum()) for a, b in zip([*ys, *claims], cs + xs) if a.shape == b.shape)
    for i, (name, x, claim) in enumerate(zip(names, xs, claims)):
        where = f"order {this_order}, {name} (shape {x.shape}{mode})"
        if claim.shape != x.shape:
            raise AssertionError(f"{where}: the gradient has shape {claim.shape}")
        if not backend.xp.isfinite(claim.data).all():
            raise AssertionError(f"{where}: the gradient is not finite")
        d = _direction(generator, x.shape)

        def along(t):
            ys = f(*map(Tensor, xs[:i] + [x + t * d] + xs[i + 1:]))
            return sum(float((y.data * c).sum()) for y, c in zip(ys, cs))
        claimed = float((claim.data * d).sum())
        scale = float((claim.data * claim.data).sum()) ** 0.5
        # below the inputs' own size, but wide enough for the noise where that is possible
        widest = max(largest, 1.0) * 1e-4
        if scale:
            widest = min(max(noise / (tolerance * scale), widest), 1e3 * widest)
        with np.errstate(all="ignore"):         # a step may lead out of a function's domain
            measured, accuracy = _slope(along, widest, noise, tolerance, scale, where)
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


def _direction(generator, shape):
    """Return random signs times sizes from U(0.5, 1.5), in float64."""
    return backend.xp.asarray(generator.uniform(0.5, 1.5, shape) * generator.choice([-1, 1], shape))


def _slope(f, widest, noise, tolerance, scale, where):
    """Return f'(0) by central differences, and its accuracy; `noise` / h is what rounding allows
    steps of h, `scale` the size of the slope that is claimed.

    The steps shrink from `widest` until the slopes of two of them agree. Wider ones are tried last,
    for a function with more rounding than `noise` says; and then the best of all is taken, if it is
    good to 1e-4.
    """
    best, worst, first = (math.inf, None), 0.0, None
    for h in [widest * 0.1 ** k for k in range(15)] + [10 * widest, 100 * widest]:
        rounding = noise / h
        left, half_left, middle, half_right, right = (f(t) for t in (-h, -h / 2, 0.0, h / 2, h))
        slope, half_slope = (right - left) / (2 * h), (half_right - half_left) / h
        # The difference of the slopes on both sides: for a smooth f it halves with h.
        bend = (right + left - 2 * middle) / h
        half_bend = (half_right + half_left - 2 * middle) / (h / 2)
        roughness = abs(slope - half_slope) + abs(bend - 2 * half_bend)
        first = first or (abs(slope), abs(bend))
        if not math.isfinite(roughness):        # a step out of the function's domain
            continue
        # So small a step that rounding hides a thousandth of the slope shows nothing, unless it
        # would still show the roughness that a wider one has met.
        blind = h < 1e-3 * widest and rounding > 1e-3 * max(scale, abs(half_slope))
        if roughness <= tolerance * abs(half_slope) + rounding:
            if not blind or rounding <= 0.1 * worst:
                return half_slope, rounding
        if not blind:
            if scale == 0 and abs(slope) + abs(bend) <= tolerance * sum(first):     # x^4 at 0
                return 0.0, rounding
            worst = max(worst, roughness)
            best = min(best, (roughness + rounding, half_slope))
    if best[0] <= 1e-4 * scale:
        return best[1], best[0]
    raise AssertionError(f"{where}: the function is not smooth at this input (the slopes on its "
                         f"two sides are {first[1]:.2g} apart): move the input off the kink, or "
                         "make the function give the same values at every call")


def _as_function(module, training, n_inputs, generator):
    """Return a function (inputs..., parameters...) -> module(inputs), {name: array} of parameters,
    and the names of the buffers that a call moves."""
    module = copy.deepcopy(module)
    module.parameters()         # raises for one that nothing would find
    places, buffers, moved = {}, [], set()
    for prefix, part in module.modules():
        part.training = training and not hasattr(part, "weight_u")      # under spectral_norm
        for name, parameter in part.own_arrays(Tensor):
            places.setdefault(parameter, []).append((part, name, prefix))
        for name, value in vars(part).items():
            if isinstance(value, backend.xp.ndarray):
                floats = value.dtype.kind == "f"
                value = value.astype("float64") if floats else value
                buffers.append((part, name, value, f"{prefix}{name}"))

    def f(*inputs):
        for parameter, owners in zip(inputs[n_inputs:], places.values()):
            for part, name, _ in owners:
                setattr(part, name, parameter)
        for part, name, value, _ in buffers:
            setattr(part, name, value.copy())
        with drawing_from(Random(0)):
            y = module(*inputs[:n_inputs])
        moved.update(full for part, name, value, full in buffers
                     if (getattr(part, name) != value).any())
        return y
    values = {f"parameter {owners[0][2]}{owners[0][1]}": p.data.astype("float64")
              for p, owners in places.items()}
    return f, {name: a + 0.01 * backend.xp.asarray(generator.standard_normal(a.shape))
               for name, a in values.items()}, moved


def _of_two(f, arrays, parameters, generator):
    """Return the inputs with a second example, a little off the first, for those of a batch of one;
    `arrays` as they are if the first is of another batch, or f takes no two."""
    if not arrays or arrays[0].shape[:1] != (1,):
        return arrays

    def twice(a):
        near = backend.xp.asarray(generator.uniform(0.9, 1.1, a.shape))
        return backend.xp.concatenate([a, a * near if a.dtype.kind == "f" else a])
    two = [twice(a) if a.shape[:1] == (1,) else a for a in arrays]
    try:
        f(*(Tensor(a) if a.dtype.kind == "f" else a for a in two + parameters))
    except Exception:       # whatever the Module raises on a batch that it does not take
        return arrays
    return two

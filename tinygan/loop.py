"""Algorithm 1 of Goodfellow et al. 2014: the loop that plays any game."""

from .backend import UserError
from .games.game import refuse_other_range
from .nested import map_nested
from .nn import drawing_from
from .random import Random
from .schedules import at
from .tensor import Tensor, grad, is_whole


def play(game, data, d_opt, g_opt, m, rng, iterations, start=0, order="alternating"):
    """Play `game` for iterations start ... iterations - 1, as a generator: after each it yields
    (i, d_loss, g_loss), Tensors of one number.

    data          an iterator without end whose next() is a minibatch x of m samples: an array, or a
                  tuple of them
    d_opt, g_opt  optimisers of game.d_parameters() and game.g_parameters()
    m             the size of a minibatch
    rng           a Random, from which noise and dropout masks are drawn
    order         "alternating": the paper's algorithm box, each step on fresh x and z.
                  "simultaneous": the published code's: one x and one z, both gradients where both
                  players were (game.losses; the GAN's from one forward pass), then both move

    All that is random is drawn before a step: d_step, g_step and both_step are functions of their
    arguments and of the players' parameters and buffers alone. (G's step has a minibatch of its own
    too, for the games that compare with it.) As a generator it raises when first asked: ValueError
    for another order and for fewer than 0 iterations or 1 discriminator step; UserError for
    simultaneous play with more than one, and for a G that ends in a sigmoid or a tanh where the
    images of the first minibatch have another range.
    """
    check_order(order)
    if iterations < 0:
        raise ValueError(f"play needs at least 0 iterations, got {iterations}")
    data = _checked(data, game)
    game.check(to_play=True)
    for i in range(start, iterations):                  # for number of training iterations do
        game.start(i)
        k, n = steps(game, "d_steps", i), steps(game, "g_steps", i)
        if order == "alternating":
            for _ in range(k):                          #   for k steps do
                batch = draw(game, data, m, rng, i)     #     sample m noise samples and m examples
                d_loss = d_step(game, d_opt, *batch)    #     update D by its stochastic gradient
            for _ in range(n):                          #   (one step, in the paper)
                batch = draw(game, data, m, rng, i)     #   sample m noise samples
                g_loss = g_step(game, g_opt, *batch)    #   update G by its stochastic gradient
        elif max(k, n) > 1:
            raise UserError("in simultaneous play each player moves once: play one step of each, "
                            f"not {k} and {n}, or in alternating order")
        else:
            d_loss, g_loss = both_step(game, d_opt, g_opt, *draw(game, data, m, rng, i))
        yield i, d_loss, g_loss                         # end for


def check_order(order):
    """Raise ValueError for an order of play that there is not."""
    if order not in ("alternating", "simultaneous"):
        raise ValueError(f"order is \"alternating\" or \"simultaneous\", got {order!r}")


def steps(game, name, i):
    """Return the number of a player's steps in iteration i; `name` is "d_steps" or "g_steps"."""
    k = at(getattr(game, name), i)
    if not is_whole(k, 1):
        raise ValueError(f"the game's {name} is {k} in iteration {i}: give a whole number of at "
                         "least 1")
    return k


def draw(game, data, m, rng, i):
    """All that a step draws: a minibatch x, the noise z, and the seed of its dropout masks."""
    return map_nested(_tensor, next(data)), game.noise(m, rng, i), rng.key()


def _checked(data, game):
    """The minibatches of `data`, the first of which is compared with the range of G's images."""
    for first in data:
        refuse_other_range(getattr(game, "G", None), map_nested(_tensor, first))
        yield first
        break
    yield from data


def _tensor(x):
    if x.dtype == "uint8" and x.ndim > 2:
        raise TypeError(f"a minibatch of bytes, {x.shape}, has no scale: give floats, by "
                        "data.as_floats(x), or use Minibatches")
    return Tensor(x) if x.dtype.kind == "f" else x      # labels stay whole numbers


def d_step(game, opt, x, z, masks):
    """Update D by descending the gradient of its loss (Algorithm 1: ascending that of V). G's
    parameters stay what they are. `masks` is the seed of the dropout masks."""
    with drawing_from(Random(masks)):
        loss = game.d_loss(x, z)
    opt.step(grad(loss, opt.parameters, unused=game.unused))
    game.after_d_step()
    return Tensor(loss.data)        # the number, without the graph that hangs on it


def g_step(game, opt, x, z, masks):
    """Update G by descending the gradient of its loss (Algorithm 1). D's parameters stay what they
    are. `masks` is the seed of the dropout masks."""
    with drawing_from(Random(masks)):
        loss = game.g_loss(x, z)
    opt.step(grad(loss, opt.parameters, unused=game.unused))
    game.end_g_step()
    return Tensor(loss.data)


def both_step(game, d_opt, g_opt, x, z, masks):
    """One step of both, each down its gradient at the point where both were."""
    with drawing_from(Random(masks)):
        d_loss, g_loss = game.losses(x, z)
    d_grads = grad(d_loss, d_opt.parameters, unused=game.unused)
    g_grads = grad(g_loss, g_opt.parameters, unused=game.unused)
    d_opt.step(d_grads)
    g_opt.step(g_grads)
    game.after_d_step()
    game.end_g_step()
    return Tensor(d_loss.data), Tensor(g_loss.data)

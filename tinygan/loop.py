"""The training loop of every game: Algorithm 1 of Goodfellow et al. 2014."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import backend
from .backend import UserError
from .games.checks import check_latent, refuse_other_range
from .games.game import Game
from .games.views import View
from .nested import flatten_nested, map_nested, tensors_in
from .nn import Module, use_random
from .nn.module import find_names
from .numbers import check_whole
from .optim import Optimizer, list_optimisers
from .random import Random, check_random
from .schedules import value_at
from .tensor import Tensor, UnusedError, grad


def play(game: Game, data: Iterator, d_opt: Optimizer, g_opt: Optimizer, m: int, rng: Random,
         iterations: int, start: int = 0,
         order: str = "alternating") -> Iterator[tuple[int, Tensor, Tensor]]:
    """Train the players of `game`: a Python generator, which yields (i, d_loss, g_loss).

    It yields after each iteration i = start ... iterations - 1. The losses are those of each
    player's last step in the iteration, before its update: Tensors of one number, which may be NaN.
    A game in evaluation mode, as load() returns it, is put into training mode by game.train(). The
    parts of a game in training mode keep their own modes.

    data          an endless iterator over minibatches x of m samples: arrays, or tuples of arrays
    d_opt, g_opt  optimisers of game.d_parameters() and game.g_parameters()
    m             the size of a minibatch
    rng           the source of noise. After the noise of each step, the seed of a stream for
                  dropout masks and all else in the step is drawn from it. On a GPU the noise has
                  such a stream too
    order         "alternating", as in the paper's Algorithm 1: D's steps, then G's step, each on
                  new x and z. "simultaneous", as in the published code: both gradients are computed
                  for the same x and z before either player is updated

    The noise of a step and the seed of all else that is random are drawn before it. So d_step,
    g_step and both_step depend only on their arguments, on the players' parameters and buffers, and
    on what the game's begin_iteration() has set. G's step gets a minibatch too, because some losses
    compare samples with data.

    Raises TypeError, ValueError or UserError for what it cannot train with: at the first next() for
    the arguments, and in an iteration for its minibatch, its number of steps and its losses. The
    checks and their messages are at the end of this file.
    """
    _check(game, d_opt, g_opt, m, rng, start, iterations, order)
    # not for a resumed run: the check may call G, which may draw from np.random
    data = check_first(data, lambda first: _check_minibatch(first, game, with_range=start == 0))
    if not game.training:
        game.train()
    d_update = prepare(d_step, game, d_opt)
    g_update = prepare(g_step, game, g_opt)
    update = prepare(both_step, game, d_opt, g_opt)
    parameters = {*game.d_parameters(), *game.g_parameters()}
    for i in range(start, iterations):                  # for number of training iterations do
        game.begin_iteration(i)
        k, n = count_steps(game, i, order)
        if order == "simultaneous":
            d_loss, g_loss = update(*draw(game, data, m, rng))
        else:
            for _ in range(k):                          #   for k steps do
                batch = draw(game, data, m, rng)        #     sample m noise samples and m examples
                d_loss = d_update(*batch)               #     update D by its stochastic gradient
            for _ in range(n):                          #   (in the paper: once)
                batch = draw(game, data, m, rng)        #   sample m noise samples (and examples,
                                                        #   for losses that compare with data)
                g_loss = g_update(*batch)               #   update G by its stochastic gradient
        if i == start:
            _refuse_new_parameters(game, parameters)
        yield i, d_loss, g_loss                         # end for
    game.penalties_due = ()     # a loop by hand that goes on calls begin_iteration() itself


def d_step(game: Game, opt: Optimizer, x: Any, z: Any, seed: int) -> Tensor:
    """Update D by descending the gradient of its loss; return the loss.

    G's parameters do not change, but its buffers may, such as running means. Algorithm 1 has D
    ascending the gradient of V, which is minus the D loss of Saturating. `seed` is that of the
    random numbers of layers, views and penalties.
    """
    with use_random(make_source(seed)):
        loss = game.d_loss(x, z)
    opt.step(_differentiate(game, "D", loss, opt))
    game.after_d_step()
    return Tensor(loss.data)        # without the graph, whose memory is freed here


def g_step(game: Game, opt: Optimizer, x: Any, z: Any, seed: int) -> Tensor:
    """Update G by descending the gradient of its loss (Algorithm 1); return the loss.

    D's parameters do not change, but its buffers may. `seed` is as in d_step.
    """
    with use_random(make_source(seed)):
        loss = game.g_loss(x, z)
    opt.step(_differentiate(game, "G", loss, opt))
    game.after_g_step()
    game.update_averages()
    return Tensor(loss.data)


def both_step(game: Game, d_opt: Optimizer, g_opt: Optimizer, x: Any, z: Any,
              seed: int) -> tuple[Tensor, Tensor]:
    """Update both players by gradients that are computed first; return (d_loss, g_loss)."""
    with use_random(make_source(seed)):
        d_loss, g_loss = game.losses(x, z)
    d_grads = _differentiate(game, "D", d_loss, d_opt)
    g_grads = _differentiate(game, "G", g_loss, g_opt)
    d_opt.step(d_grads)
    g_opt.step(g_grads)
    game.after_d_step()
    game.after_g_step()
    game.update_averages()
    return Tensor(d_loss.data), Tensor(g_loss.data)


def _differentiate(game, player, loss, opt):
    """Return the gradient of a player's loss with respect to each of the optimiser's parameters."""
    if type(loss) is not Tensor or loss.size != 1:
        shape = f" of shape {loss.shape}" if hasattr(loss, "shape") else ""
        raise TypeError(f"{player}'s loss in {type(game).__name__} must be a Tensor of one number, "
                        f"such as a mean, got a {type(loss).__name__}{shape}")
    try:
        return grad(loss, opt.parameters, unused=game.unused)
    except ValueError as error:
        _explain_unused(error, game, player, opt)
        raise


def draw(game: Game, data: Iterator, m: int, rng: Random) -> tuple[Any, Any, int]:
    """Draw the inputs of a step: a minibatch x, the noise z, and the seed of its other numbers.

    On a GPU, the noise is drawn there, from a stream whose seed is drawn from rng.
    """
    x = _next_minibatch(data, m)
    z = game.latent(m, rng if backend.cuda is None else make_source(rng.key()))
    return x, check_latent(z, m), rng.key()


def _next_minibatch(data, m):
    """Return the next minibatch, with arrays of floats as Tensors; check that it has m rows."""
    try:
        x = _as_tensors(next(data))
    except StopIteration:
        raise UserError("the data has ended before the last iteration: give an endless iterator, "
                        "such as data.Minibatches or itertools.cycle(minibatches)") from None
    for part in flatten_nested(x):
        if part.shape[:1] != (m,):
            raise UserError(f"the data gave a minibatch of shape {part.shape}, but m is {m}: give "
                            "minibatches of m rows, such as data.Minibatches(images, m)")
    return x


def _as_tensors(x):
    """Return a minibatch with arrays of floats as Tensors. Labels stay whole numbers."""
    alone = not isinstance(x, tuple)

    def convert(a):
        if type(a) is Tensor:
            return a
        if not isinstance(a, (np.ndarray, backend.xp.ndarray)):
            raise TypeError(f"a minibatch is an array or a tuple of arrays, got {type(a)} in it")
        if a.dtype.kind == "f":
            return Tensor(a)
        if alone or a.dtype == "uint8" and a.ndim > 2:
            raise TypeError(f"a minibatch of {a.dtype} of shape {a.shape} must be floats: bytes "
                            "become floats in [0, 1] by data.as_floats(x) or by data.Minibatches, "
                            "and other numbers by x.astype(\"float32\")")
        return a
    return map_nested(convert, x)


def make_source(seed: int) -> Any:
    """Return a source of a step's random numbers: Random(seed), or on a GPU cuda.Philox(seed)."""
    return Random(seed) if backend.cuda is None else backend.cuda.Philox(seed)


def prepare(step: Callable, game: Game, *optimisers: Optimizer) -> Callable:
    """Return the function (x, z, seed) -> step(game, *optimisers, x, z, seed).

    On a GPU it records the step and launches it as a CUDA graph, see graphs.CapturedStep.
    """
    if backend.cuda is None:
        return functools.partial(step, game, *optimisers)
    from .graphs import CapturedStep        # on a CPU nothing imports it
    return CapturedStep(step, game, *optimisers)


def count_steps(game: Game, i: int, order: str = "alternating") -> tuple[int, int]:
    """Return the numbers of D's and of G's steps in iteration i.

    Raises ValueError unless they are whole numbers of at least 1, and UserError for more than one
    step in simultaneous order.
    """
    k, n = value_at(game.d_steps, i), value_at(game.g_steps, i)
    for name, steps in ("d_steps", k), ("g_steps", n):
        check_whole(steps, 1, f"the game's {name} in iteration {i}")
    if order == "simultaneous" and max(k, n) > 1:
        raise UserError("in simultaneous order each player takes one step in an iteration: set "
                        f"d_steps and g_steps to 1, not {k} and {n}, or choose the alternating "
                        "order")
    return k, n


# What play() refuses

def _check(game, d_opt, g_opt, m, rng, start, iterations, order):
    """Raise an error for arguments that play() does not take."""
    check_order(order)
    for name, n, least in (("iterations", iterations, 0), ("start", start, 0), ("m", m, 1)):
        check_whole(n, least, f"play's {name}")
    for name, thing, kind in (("game", game, Game), ("d_opt", d_opt, Optimizer),
                              ("g_opt", g_opt, Optimizer)):
        if not isinstance(thing, kind):
            raise TypeError(f"play's {name} must be an instance of {kind.__name__}, got "
                            f"{thing!r:.60}")
    check_random(rng, "play")
    game.check(before_training=True)
    _check_parts(game, start)
    _check_optimiser("d", d_opt, game)
    _check_optimiser("g", g_opt, game)
    if not set(d_opt.parameters).isdisjoint(g_opt.parameters):
        raise UserError("d_opt and g_opt share parameters, which D's and G's steps would change "
                        "for opposite aims: leave them out of one of the two")
    if (order == "alternating" and game.overrides("losses")
            and not game.overrides("d_loss", "g_loss")):
        raise UserError(f"{type(game).__name__} defines losses(), which the alternating order does "
                        "not call: define d_loss() and g_loss(), or give order=\"simultaneous\"")


def _check_parts(game, start):
    """Raise UserError for a player in evaluation mode, and for a Tensor that nothing trains.

    A network may be in evaluation mode later in a run: the game may have put it there.
    """
    trained = {*game.d_parameters(), *game.g_parameters(),
               *(p for opt in list_optimisers(game) for p in opt.parameters)}
    for name in (*game.d_players, *game.g_players) if game.training and start == 0 else ():
        if not getattr(getattr(game, name), "training", True):
            raise UserError(f"{name} is in evaluation mode, so its batch normalisation, dropout or "
                            "spectral norm would not train: call game.train(), or, if that is "
                            f"meant, put its layers into evaluation mode, but not {name} itself")
    for prefix, part in game.modules():
        for name, p in part.own_arrays(Tensor) if isinstance(part, (Game, View)) else ():
            if p not in trained:
                raise UserError(f"{prefix}{name} is a Tensor of no player, which nothing would "
                                "train: make it an attribute of a network in d_players or "
                                "g_players, or, if it is a constant, store its array, .data")


def check_order(order: str) -> None:
    """Raise ValueError unless the order is "alternating" or "simultaneous"."""
    if order not in ("alternating", "simultaneous"):
        raise ValueError(f"order is \"alternating\" or \"simultaneous\", got {order!r}")


def _check_optimiser(player, opt, game):
    """Raise UserError for an optimiser of others' parameters, or of none of one of the networks.

    The player is "d" or "g". It may freeze parameters, which its optimiser does not have, and leave
    a network to an optimiser that is an attribute of the game, which steps it.
    """
    parameters = getattr(game, f"{player}_parameters")()
    if not set(opt.parameters) <= set(parameters):
        raise UserError(f"{player}_opt has parameters of other networks than its player's: make it "
                        f"of game.{player}_parameters(), and name the networks in {player}_players")
    trained = {p for each in (opt, *list_optimisers(game)) for p in each.parameters}
    for name in getattr(game, f"{player}_players"):
        network = getattr(game, name)
        own = set(network.parameters(above=(game,)) if isinstance(network, Module) else ())
        if own & set(parameters) and own.isdisjoint(trained):
            raise UserError(f"{player}_opt has no parameter of {name}, which would not be trained: "
                            f"make it of game.{player}_parameters(), or leave {name} out of the "
                            f"game's {player}_players")


def _check_minibatch(first, game, with_range):
    """Raise an error unless the first minibatch is one for this game.

    with_range   whether to compare its range with that of G's samples
    """
    x = _as_tensors(first)
    game.check_minibatch(x)
    names, found = find_names(game), {}         # {dtype: the name of the first of it}
    for p in (*game.d_parameters(), *game.g_parameters()):
        found.setdefault(str(p.dtype), names.get(p, "another parameter"))
    for t in tensors_in(x):
        found.setdefault(str(t.dtype), "the data")
    if len(found) > 1:
        raise UserError(f"{found['float64']} is float64 and {found['float32']} is float32, and the "
                        "two do not mix: convert all to float32, as play's noise is, by "
                        "array.astype(\"float32\")")
    if with_range:
        refuse_other_range(game, x)


def _explain_unused(error, game, player, opt):
    """Raise UserError for an error of grad() about a parameter that has no part in the loss."""
    p, names = opt.parameters[getattr(error, "i", 0)], find_names(game)
    if p not in names:
        raise UserError(f"{player}'s optimiser has a parameter of shape {p.shape} that is no "
                        "longer one of the game's: change a weight in place, as in p.data[...] = "
                        "array and p.touch(), or make the optimiser after the networks are "
                        "complete") from None
    if isinstance(error, UnusedError):
        raise UserError(f"{names[p]}, of shape {p.shape}, has no part in {player}'s loss: a "
                        "Tensor(x.data) or a no_grad() may have made a constant of what depends on "
                        "it; if not, remove it from the network, or set unused = \"zeros\" in the "
                        "class of the game") from None


def _refuse_new_parameters(game, before):
    """Raise UserError if the players have more parameters than `before`, a set."""
    now = {*game.d_parameters(), *game.g_parameters()}
    if len(now) > len(before):
        names = find_names(game)
        made = min(names.get(p, "a parameter") for p in now - before)
        raise UserError(f"{made} was made in the first iteration, so no optimiser has it: make "
                        "it in the constructor; or, if it is not to be trained, store its array, "
                        ".data, or name it in the class's `untracked`")


def check_first(data: Iterator, check: Callable) -> Iterator:
    """Yield the minibatches of `data`; call check(first) before the first one is yielded.

    Raises TypeError if `data` is no iterator.
    """
    try:
        data = iter(data)
    except TypeError:
        raise TypeError("play's data must be an iterator, with the methods __iter__ and __next__, "
                        f"got a {type(data).__name__}") from None
    for i, x in enumerate(data):
        if i == 0:
            check(x)
        yield x

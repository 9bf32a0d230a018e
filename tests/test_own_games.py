"""Games, networks, optimisers and streams of a user's own: what would be silently wrong is refused,
and what is unusual but right is computed as the equations say."""

import os

import numpy as np
import pytest

from tinygan import Run, Tensor, UserError, backend, nn, no_grad, ops, optim, play, rng
from tinygan.data import Minibatches
from tinygan.games import GAN, SNGAN, BiGAN, Game, GauGAN, UnrolledGAN, losses, penalties, views
from tinygan.metrics import train_classifier
from tinygan.networks import patch

from helpers import normal, tensor, to_float64


def G(z_size=3):
    return nn.Sequential(nn.Dense(z_size, 4), nn.BatchNorm(4), nn.ReLU(), nn.Dense(4, 2))


def D(n=2):
    return nn.Sequential(nn.Dense(n, 4), nn.Tanh(), nn.Dense(4, 1))


def optimisers(game, lr=0.1):
    return optim.SGD(game.d_parameters(), lr), optim.SGD(game.g_parameters(), lr)


def minibatches(m=4):
    return Minibatches(normal(40, 2).astype("float32"), m)


def train(game, iterations=2, order="alternating"):
    for _ in play(game, minibatches(), *optimisers(game), 4, rng, iterations, order=order):
        pass
    return game


# D's input

class Pairs(Game):
    """D sees pairs: (x, x) for the data, and (G(z), G(z)) for the samples."""

    def real(self, x):
        return x, x

    def fake(self, x, z):
        y = self.generate(z)
        return y, y


class Sum(nn.Module):
    """D(x, y) = a x + b y."""

    def __init__(self):
        self.a, self.b = nn.Dense(2, 1), nn.Dense(2, 1)

    def forward(self, x, y):
        return self.a(x) + self.b(y)


@pytest.mark.parametrize("penalty", [penalties.R1(2.0), penalties.R2(2.0)])
def test_a_tensor_that_is_two_parts_of_ds_input_has_two_derivatives(penalty):
    """|dD/dx|^2 + |dD/dy|^2 = |a|^2 + |b|^2 in both orders, although x and y are one Tensor."""
    game = Pairs(G(), Sum(), 3, loss=losses.Wasserstein(), penalties=[penalty])
    without = Pairs(game.G, game.D, 3, loss=losses.Wasserstein())
    x, z = tensor(normal(5, 2), "float32"), game.latent(5, rng)
    expected = sum(float((p.weight.data ** 2).sum()) for p in (game.D.a, game.D.b))
    for loss in (lambda game: game.d_loss(x, z), lambda game: game.losses(x, z)[0]):
        assert loss(game).item() - loss(without).item() == pytest.approx(expected, rel=1e-5)


def test_scores_are_compared_with_those_of_the_same_map():
    """With k discriminators the relativistic average loss is the mean of those of each of them."""
    real, fake = (tensor(normal(4, 3, 2, 2, seed=seed)) for seed in (0, 1))
    loss = losses.RelativisticAverage()
    for f in (loss.d, loss.g):
        each = [f(real[:, i:i + 1], fake[:, i:i + 1]).item() for i in range(3)]
        assert f(real, fake).item() == pytest.approx(np.mean(each), rel=1e-12)


def test_the_derivative_of_a_score_by_the_way_that_the_page_names():
    """In d_terms of a BiGAN it is that by both parts of (x, E(x)), without the derivative of E."""
    class Own(BiGAN):
        def d_terms(self, x, z, fake, out_real, out_fake):
            with no_grad():
                real = self.real(x)
            return [penalties.squared_gradient_norm(real, self.score(real))]
    parts = nn.Dense(3, 2), nn.Dense(2, 3), Sum()
    parts[2].b = nn.Dense(3, 1)
    own, plain = Own(*parts, z_size=3), BiGAN(*parts, z_size=3, penalties=[penalties.R1(2.0)])
    x, z = tensor(normal(5, 2), "float32"), own.latent(5, rng)
    assert own.d_loss(x, z).item() == pytest.approx(plain.d_loss(x, z).item(), rel=1e-5)


# Terms of the losses

class Term(GAN):
    d = g = staticmethod(lambda game, x, fake: [])

    def d_terms(self, x, z, fake, out_real, out_fake):
        return self.d(self, x, fake)

    def g_terms(self, x, z, fake, out_fake):
        return self.g(self, x, fake)


@pytest.mark.parametrize("player, term", [
    ("d", lambda game, x, fake: [(game.generate(game.z) - x).mean()]),       # a term of G's
    ("d", lambda game, x, fake: [(Tensor(game.D(x).data) ** 2).mean()]),
    ("g", lambda game, x, fake: [(Tensor(fake.data) - x).mean()]),
    ("g", lambda game, x, fake: [game.D(x).mean()])])
def test_a_term_without_a_parameter_of_its_player_is_refused(player, term):
    game = Term(G(), D(), 3)
    x, z = tensor(normal(5, 2), "float32"), game.latent(5, rng)
    game.losses(x, z)
    vars(game).update({player: term, "z": z})
    for loss in (getattr(game, f"{player}_loss"), game.losses):
        with pytest.raises(TypeError, match="depends on no parameter of the player whose loss"):
            loss(x, z)


def test_a_term_that_is_a_constant_of_ones_own_is_allowed():
    """So a term may be left out at some steps: Tensor(0.0)."""
    game = Term(G(), D(), 3)
    game.g = lambda *_: [Tensor(backend.xp.zeros((), "float32"))]
    train(game)


# Networks and their averages

def test_the_average_of_g_refuses_what_it_could_not_follow():
    """Frozen batch statistics would be measured anew; layers that came later would be left out."""
    game = GAN(G(), D(), 3)
    game.keep_average(0.5)
    game.G.layers[1].eval()
    with pytest.raises(UserError, match="G has batch normalisation in evaluation mode.*average"):
        train(game)
    train(game.train())
    game.G.layers.append(nn.Dense(2, 2))
    with pytest.raises(UserError, match="G has other parameters than its average.*keep_average"):
        train(game)
    game.keep_average(0.5)
    train(game)
    game.averages = None
    game.G.layers[1].eval()             # without an average both are allowed
    train(game)


def test_a_player_in_evaluation_mode_is_refused():
    """As the networks of a loaded game are in a new one: their statistics would not be trained.

    A part of a player may be in evaluation mode, and a player from a later iteration on.
    """
    old = GAN(G(), D(), 3).eval()
    game = GAN(old.G, old.D, 3)
    with pytest.raises(UserError, match="^D is in evaluation mode.*: call game.train()"):
        train(game)
    game.D.train()
    with pytest.raises(UserError, match="^G is in evaluation mode"):
        train(game)
    mean = game.G.layers[1].running_mean.copy()
    train(game.train())
    assert (game.G.layers[1].running_mean != mean).any()
    game.G.eval()
    for _ in play(game, minibatches(), *optimisers(game), 4, rng, 3, start=2):
        assert not game.G.layers[1].training


def test_parts_in_evaluation_mode_stay_so_while_the_game_is_evaluated():
    """train() of a game in training mode switches all of it."""
    game = GAN(G(), D(), 3)
    game.C = nn.Sequential(nn.BatchNorm(2)).eval()
    game.G.layers[1].eval()
    for _ in range(2):
        assert not any(part.training for _, part in game.eval().eval().modules())
        kept = [part for _, part in game.train().modules() if not part.training]
        assert kept == [game.G.layers[1], game.C, game.C.layers[0]]
    assert all(part.training for _, part in game.train().modules())
    assert all(part.training for _, part in game.eval().train().modules())


@pytest.mark.numpy_only("nothing is computed")
def test_a_tensor_that_nothing_trains_is_refused():
    """It is a parameter of the game, but of no player. A third optimiser may have it."""
    class Gain(views.View):
        def __init__(self):
            self.gain = Tensor([1.0])

        def forward(self, x):
            return x * self.gain
    game = GAN(G(), D(), 3)
    game.scale = Tensor([1.0])
    for game, name in ((game, "scale"), (GAN(G(), D(), 3, views=[Gain()]), "views.0.gain")):
        with pytest.raises(UserError, match=f"^{name} is a Tensor of no player.*store its array"):
            train(game)
    part = game.views[0]
    game.opt = optim.SGD([part.gain], 0.1)
    train(game)
    game.opt, part.gain = None, None
    part.gain = backend.xp.ones(1, "float32")
    train(game)


def test_an_average_leaves_a_games_own_decay_alone():
    class Own(GAN):
        def __init__(self):
            super().__init__(G(), D(), 3)
            self.keep_average(0.5)
            self.decay = 0.9
    game = Own()
    game.keep_average(0.75)
    weight = game.G.layers[0].weight
    weight.data += 4
    game.update_averages()
    assert game.decay == 0.9
    moved = weight.numpy() - game.averages["G"].layers[0].weight.numpy()
    assert moved == pytest.approx(3, abs=1e-5)          # float32


def test_samples_do_not_depend_on_each_other_whatever_generate_uses():
    """A network of no player, with batch normalisation, is in evaluation mode in sample()."""
    class Own(GAN):
        def __init__(self, G, D, M):
            super().__init__(G, D, 3)
            self.M = M

        def generate(self, z):
            return self.G(self.M(z))
    game = train(Own(G(), D(), nn.BatchNorm(3)))
    z, statistics = game.latent(50, rng), game.M.state_dict()
    np.testing.assert_allclose(backend.to_numpy(game.sample(z))[:1],
                               backend.to_numpy(game.sample(Tensor(z.data[:1]))),
                               rtol=1e-5, atol=1e-6)        # float32 products of 50 and 1 rows
    assert all((a == statistics[name]).all() for name, a in game.M.state_dict().items())
    assert game.M.training


def test_a_weight_that_was_replaced_is_named():
    class Own(GAN):
        def after_d_step(self):
            self.D.layers[0].weight = Tensor(self.D.layers[0].weight.data * 1)
    with pytest.raises(UserError, match="is no longer one of the game's: change a weight in place"):
        train(Own(G(), D(), 3))


def test_a_network_that_was_replaced_is_named():
    class Own(GAN):
        def after_d_step(self):
            self.D = D()
    with pytest.raises(UserError, match="D's optimiser has a parameter .* no longer one of the ga"):
        train(Own(G(), D(), 3))


def test_the_gradient_penalty_of_a_game_of_float64():
    """The eps of each sample are drawn in float32."""
    class Own(Game):
        loss = losses.Wasserstein()

        def latent(self, m, rng):
            return Tensor(rng.normal((m, self.z_size)).astype("float64"))
    game = to_float64(Own(G(), D(), 3, penalties=[penalties.GradientPenalty()]))
    x = tensor(normal(4, 2))
    loss = game.d_loss(x, game.latent(4, rng))
    assert loss.dtype == "float64" and np.isfinite(loss.item())


@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
@pytest.mark.parametrize("player", ["G", "D"])
def test_a_parameter_that_is_made_in_the_first_iteration_is_refused(player, order):
    """No optimiser would have it. After one call of the network, all is in order."""
    class Scaled(nn.Module):
        def __init__(self, net):
            self.net, self.scale = net, None

        def forward(self, x):
            y = self.net(x)
            if self.scale is None:
                self.scale = Tensor(backend.xp.ones(y.shape[1], "float32"))
            return y * self.scale

    def make():
        nets = {"G": G(), "D": D()}
        return GAN(**{**nets, player: Scaled(nets[player])}, z_size=3)
    with pytest.raises(UserError, match=f"{player}.scale was made in the first iteration"):
        train(make(), order=order)
    game = make()
    game.D(game.G(game.latent(4, rng)))
    train(game, order=order)
    assert (getattr(game, player).scale.numpy() != 1).any()


@pytest.mark.host
def test_an_attribute_that_hides_a_method_is_refused():
    for name, value in (("parts", {}), ("modules", []), ("log", 0.1), ("latent", 2)):
        game = GAN(G(), D(), 3)
        with pytest.raises(TypeError, match=f"GAN.{name} is a method, .*: choose another name"):
            setattr(game, name, value)
    game.latent = lambda m, rng: Tensor(rng.normal((m, 3)))     # a function in its place
    train(game)

    class Own(GAN):
        def d_steps(i):         # a default that a number may replace
            return 1
    assert Own(G(), D(), 3, d_steps=2).d_steps == 2


@pytest.mark.host
def test_a_game_without_its_constructor_says_so_before_its_optimisers_are_made():
    class Own(GAN):
        def __init__(self):
            self.net = nn.Dense(2, 2)
    with pytest.raises(UserError, match=r"Own.__init__\(\) has not called super"):
        Own().d_parameters()


@pytest.mark.host
@pytest.mark.parametrize("base, name", [
    (nn.Module, "untracked"), (optim.SGD, "state_names"), (optim.SGD, "untracked"),
    (GAN, "minibatch"), (GAN, "d_players"), (GAN, "g_players")])
def test_a_text_in_place_of_a_tuple_of_names_is_refused(base, name):
    """("batch") is the text "batch" and would be the letters b, a, t, c, h."""
    arguments = {optim.SGD: lambda: ([Tensor(np.ones(2))], 0.1), GAN: lambda: (G(), D(), 3)}
    with pytest.raises(TypeError, match=rf"Own.{name} .*: write {name} = \('batch',\), with a com"):
        Own = type("Own", (base,), {name: ("batch")})
        Own(*arguments[base]())


def test_a_second_head_of_sngan_may_come_later():
    """A network in d_players that is set after super().__init__() is checked when it is there."""
    normalised = nn.Sequential(*[nn.spectral_norm(nn.Dense(n, m)) for n, m in ((2, 4), (4, 1))])

    class Two(SNGAN):
        d_players = "D", "D2"

        def __init__(self, D2):
            super().__init__(G(), normalised, 3, n_dis=1)
            self.D2 = D2

        def d_terms(self, x, z, fake, out_real, out_fake):
            return [self.D2(x).mean()]
    with pytest.raises(UserError, match="its weight is not normalised"):
        train(Two(nn.Dense(2, 1)))
    train(Two(nn.spectral_norm(nn.Dense(2, 1))))


@pytest.mark.parametrize("make", [
    lambda: nn.Sequential(nn.Dense(2, 1), nn.Sigmoid()),
    lambda: lambda x: ops.sigmoid(x[:, :1])])
def test_a_sigmoid_is_found_among_joined_scores(make):
    """D's scores are those of two networks, joined as CycleGAN and MultiScale join theirs."""
    class Own(GAN):
        def discriminate(self, inputs):
            return ops.concat([self.net(inputs), self.D(inputs)])
    game = Own(G(), D(), 3)
    x, z = tensor(normal(4, 2), "float32"), game.latent(4, rng)
    game.net = game.D
    game.d_loss(x, z)
    game.net = make()
    with pytest.raises(UserError, match="D ends in a sigmoid"):
        game.d_loss(x, z)


def test_a_loss_that_forgot_to_compare_is_named_by_an_unrolled_gan_too():
    class Own(losses.Loss):
        def d(self, real, fake):
            return fake.mean() - real.mean()

        def g(self, real, fake):
            return (real - fake).mean()
    game = UnrolledGAN(G(), D(), 3, k=1, loss=Own())
    with pytest.raises(TypeError, match="compares = True"):
        game.g_loss(tensor(normal(4, 2), "float32"), game.latent(4, rng))


@pytest.mark.parametrize("outputs, said", [
    (lambda a: [a, a], r"or a tuple that begins with them, not a list$"),
    (lambda a: (a[:, 0], a), r"not a Tensor of shape \(4,\)")])
def test_outputs_of_d_that_are_no_scores_are_named(outputs, said):
    class Own(GAN):
        def discriminate(self, inputs):
            return outputs(self.D(inputs))
    game = Own(G(), D(), 3)
    with pytest.raises(UserError, match=said):
        game.d_loss(tensor(normal(4, 2), "float32"), game.latent(4, rng))


# Features of discriminators

def test_discriminators_without_features_are_refused_where_features_are_matched():
    def make(*layers):
        return nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), *layers, nn.Conv2d(4, 1, 3, 1, 1))
    with pytest.raises(UserError, match="has a LeakyReLU inside one of its layers"):
        patch.MultiScale(make(nn.LeakyReLU()), make(nn.Sequential(nn.LeakyReLU())))

    class Paint(nn.Module):
        def __init__(self):
            self.net = nn.Conv2d(3, 1, 3, 1, 1)

        def forward(self, z, a):
            return self.net(a)
    x, choices = (tensor(normal(2, 3, 8, 8), "float32"), tensor(normal(2, 1, 8, 8), "float32")), {}
    game = GauGAN(Paint(), patch.MultiScale(make(nn.ReLU())), z_size=2)
    with pytest.raises(UserError, match="MultiScale of discriminators with leaky ReLUs, or give l"):
        game.g_loss(x, game.latent(2, rng))
    choices["views"] = [views.Pack(2)]
    with pytest.raises(UserError, match="leave views.Pack out, or give lam=0"):
        GauGAN(Paint(), patch.MultiScale(make(nn.LeakyReLU())), z_size=2, **choices)
    GauGAN(Paint(), patch.MultiScale(make(nn.LeakyReLU())), z_size=2, lam=0, **choices)


def test_a_classifier_with_dropout_is_the_same_every_time():
    images, labels = np.zeros((8, 1, 2, 2), np.uint8) + np.arange(8, dtype=np.uint8)[
        :, None, None, None], np.arange(8) % 2

    def make():
        return nn.Sequential(nn.Flatten(), nn.Dense(4, 6), nn.Dropout(0.5), nn.Dense(6, 2))
    found = []
    for seed in (1, 2):
        rng.seed(seed)
        before = rng.state
        found.append(train_classifier(make, images, labels, steps=3).state_dict())
        assert rng.state == before
    assert all((found[0][name] == found[1][name]).all() for name in found[0])


def test_parameters_of_two_dtypes_are_named():
    """An array is float64 unless it is made float32; the error of the operation names no layer."""
    class Scale(nn.Module):
        def __init__(self):
            self.factor = tensor(np.ones(2))

        def forward(self, x):
            return x * self.factor
    with pytest.raises(UserError, match="^G.1.factor is float64 and D.0.weight is float32, and"):
        train(GAN(nn.Sequential(nn.Dense(3, 2), Scale()), D(), 3))


@pytest.mark.numpy_only("nothing is computed")
def test_data_that_is_no_iterator_is_refused():
    class Bare:
        def __next__(self):
            return np.zeros((4, 2), "float32")
    game = GAN(nn.Dense(3, 2), D(), 3)
    with pytest.raises(TypeError, match="must be an iterator, with the methods .*, got a Bare$"):
        next(play(game, Bare(), *optimisers(game), 4, rng, 1))


# Runs

def make_run(folder, game=None, data=None, kind=Run, steps=4, **flags):
    game = GAN(nn.Dense(3, 2), D(), 3) if game is None else game
    return kind(folder, game, minibatches() if data is None else data,
                {"d_opt": optim.SGD(game.d_parameters(), 0.1),
                 "g_opt": optim.SGD(game.g_parameters(), 0.1), **flags.pop("more", {})},
                steps, **flags)


def test_a_network_outside_the_game_is_refused(tmp_path):
    """Its optimiser's averages would be saved, and its weights would not."""
    class Own(Run):
        def iterations(self, start):
            return super().iterations(start)
    with pytest.raises(UserError, match="c has parameters that are not the game's, which a checkp"):
        make_run(tmp_path / "run", kind=Own, more={"c": optim.Adam(nn.Dense(2, 2).parameters())})
    assert not any(tmp_path.iterdir())


class Third(GAN):
    """A game with a network and an optimiser of its own."""

    def __init__(self, G, D):
        super().__init__(G, D, 3)
        self.C = nn.Dense(2, 2)
        self.own = {"c": optim.SGD(self.C.parameters(), 0.1)}


def test_optimisers_of_a_game_are_found_in_a_dictionary(tmp_path):
    game = Third(nn.Dense(3, 2), D())
    assert optim.list_optimisers(game) == [game.own["c"]]
    with pytest.raises(UserError, match="give it to the Run in its dictionary of optimisers"):
        make_run(tmp_path, game)
    make_run(tmp_path, game, more=game.own).play()


class Counting:
    """A stream of minibatches that are drawn from a generator, in the state only if `whole`."""

    m = 4

    def __init__(self, whole):
        self.whole, self.i, self.own = whole, 0, np.random.default_rng(0)

    def __iter__(self):
        return self

    def __next__(self):
        self.i += 1
        return self.own.normal(size=(4, 2)).astype("float32") + rng.normal((4, 2)) + (
            np.random.rand())

    @property
    def state(self):
        return {"i": self.i, "own": self.own.bit_generator.state if self.whole else None}

    @state.setter
    def state(self, state):
        self.i = state["i"]
        if self.whole:
            self.own.bit_generator.state = state["own"]


@pytest.mark.numpy_only("its minibatches are numpy's")
def test_a_stream_must_be_continued_by_its_state(tmp_path):
    """A check draws from it and leaves it, and the process's random streams, as they were."""
    with pytest.raises(UserError, match="gives another minibatch after its `state`"):
        make_run(tmp_path, data=Counting(False))
    game, data = GAN(nn.Dense(3, 2), D(), 3), Counting(True)
    before = rng.state, np.random.get_state()[2]
    run = make_run(tmp_path, game, data)
    assert data.i == 0 and (rng.state, np.random.get_state()[2]) == before
    run.play()
    assert data.i == 8              # one for each step of a player

    class Fixed(Counting):
        state = property(lambda self: {})
    with pytest.raises(UserError, match="cannot be assigned .*: give it a setter"):
        make_run(tmp_path, data=Fixed(True), overwrite=True)


@pytest.mark.numpy_only("nothing is computed")
def test_a_run_that_only_measures_steps_no_further_optimiser(tmp_path):
    """The weights of `extra` would keep their first values."""
    class Own(Run):
        def measure(self, step):
            return {}
    game = GAN(nn.Dense(3, 2), D(), 3)
    more = {"extra": optim.SGD(game.d_parameters()[:1], 0.1)}
    with pytest.raises(UserError, match="g_opt, got d_opt, g_opt, extra: .* override `iter"):
        make_run(tmp_path, game, kind=Own, more=more)


@pytest.mark.numpy_only("nothing is computed")
def test_what_is_no_optimiser_is_refused(tmp_path):
    class Duck:
        parameters = ()
    with pytest.raises(TypeError, match="^extra must be an Optimizer, got a Duck$"):
        make_run(tmp_path, more={"extra": Duck()})


@pytest.mark.numpy_only("nothing is computed")
@pytest.mark.parametrize("measured, said", [
    ({"D loss": 1.0}, "returned D loss, which the game logs: give the measured value another name"),
    ({"fid": np.nan}, "returned nan for fid, which is no finite number: leave out what is not"),
    ({"fid": np.inf}, "returned inf for fid"),
    ({"fid": None}, "returned None for fid"), ({"fid": "good"}, "returned 'good' for fid")])
def test_a_measurement_that_is_no_number_is_named(measured, said, tmp_path):
    class Own(Run):
        def measure(self, step):
            return measured
    with pytest.raises(TypeError, match=said):
        make_run(tmp_path, kind=Own).play()


@pytest.mark.numpy_only("nothing is computed")
@pytest.mark.parametrize("name", ["a\tb", "\n", "\u2028", "\ud800", "", "step", 3])
def test_a_name_that_the_log_could_not_have_is_refused(name, tmp_path):
    """A checkpoint with such a name could not be read, and "step" is a column of its own."""
    class Own(GAN):
        def after_g_step(self):
            self.log(name, np.float32(1))
    with pytest.raises(TypeError, match="the name of a logged value is a text of printable"):
        make_run(tmp_path / "run", Own(nn.Dense(3, 2), D(), 3)).play()
    assert not os.path.exists(tmp_path / "run" / "checkpoint.npz")


@pytest.mark.numpy_only("nothing is computed")
def test_the_name_of_a_loss_is_not_logged_twice():
    game = GAN(nn.Dense(3, 2), D(), 3)
    for name in ("D loss", "G loss"):
        with pytest.raises(ValueError, match=f"the {name} is logged by the run"):
            game.log(name, np.float32(1))


@pytest.mark.numpy_only("nothing is computed")
def test_panels_are_lists_of_names(tmp_path):
    class Own(Run):
        def panels(self, names):
            return ["D loss", "G loss"]
    with pytest.raises(TypeError, match=r"panels\(\) of a Run returns a list of lists of names"):
        make_run(tmp_path, kind=Own).play()

"""InfoGAN: interpretable representation learning (Chen et al. 2016)."""

import math
from typing import Any

from .. import backend
from ..backend import Array, UserError
from ..nn import Module, eval_mode
from ..numbers import is_whole
from ..ops import cross_entropy
from ..random import Random, check_source
from ..tensor import Tensor, no_grad
from .checks import check_weights
from .gan import GAN


class InfoGAN(GAN):
    """The GAN whose G takes a code c beside the noise z, and whose Q infers c from the sample.

        min_{G, Q} max_D V(D, G) - lam L_I(G, Q)                            (eq. 6)
        L_I(G, Q) = E log Q(c | G(z, c)) + H(c) <= I(c; G(z, c))            (eq. 4-5)

    The code has a discrete part, one of `codes` values that are equally likely, and `continuous`
    numbers from U(-1, 1). Nothing tells G what they are to mean.

    G   a Module of two inputs: the noise z with the continuous part of c after it, (m, z_size +
        continuous), and the discrete part of c, whole numbers (m,)
    D   a Module that returns (logits (m, 1), Q's outputs (m, codes + continuous)), for example
        nn.Heads: Q shares D's first layers. Q's outputs are the logits of the discrete part and the
        means of the continuous one, for which Q is N(mean, 1)

    lam   the weight of L_I, in the paper 1 for the discrete part, and in its code for both
    on_g  whether G's loss has -lam L_I, as in the paper. Without it, Q still learns, but G is
          free to ignore the code: the paper's control (figure 1)

    As in the published code (openai/InfoGAN), D's step also trains Q and the layers that it shares:
    both players' losses have the term -lam L_I. z ~ U(-1, 1), the default loss of G is the
    non-saturating one, and the variance of Q is fixed at 1. L_I of the discrete part, in nats, and
    the mean squared error of the continuous part (1/3 for a constant guess) are logged.

    Raises UserError for fewer than two codes, a negative number of continuous ones and a negative
    lam, and in a step if D does not return Q's outputs.
    """

    def __init__(self, G: Module, D: Module, z_size: int = 62, codes: int = 10,
                 continuous: int = 2, lam: float = 1.0, on_g: bool = True, **choices) -> None:
        super().__init__(G, D, z_size, **choices)
        if not is_whole(codes, 2) or not is_whole(continuous, 0):
            raise UserError("a code has a discrete part of at least 2 values and at least 0 "
                            f"continuous numbers, got codes={codes!r}, continuous={continuous!r}")
        check_weights(lam=lam)
        self.codes, self.continuous, self.lam, self.on_g = codes, continuous, lam, on_g

    def latent(self, m: int, rng: Random) -> tuple[Tensor, Array]:
        """Draw (noise and continuous code (m, z_size + continuous), discrete code (m,))."""
        check_source(rng, "latent")
        return (Tensor(rng.uniform(-1, 1, (m, self.z_size + self.continuous))),
                rng.integers(self.codes, (m,)))

    def read_q(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """Return Q's logits (m, codes) and means (m, continuous), from D's outputs.

        Raises UserError if these are not (logits, Q's outputs).
        """
        n = self.codes + self.continuous
        if not isinstance(outputs, tuple) or len(outputs) != 2 or outputs[1].shape[1:] != (n,):
            raise UserError(f"D must return (logits (m, 1), Q's outputs (m, {n})): give it two "
                            f"heads, such as nn.Heads(trunk, nn.Dense(n, 1), nn.Dense(n, {n}))")
        return outputs[1][:, :self.codes], outputs[1][:, self.codes:]

    def measure_code(self, z: Any, outputs: Any) -> tuple[Tensor, Tensor | None]:
        """Return how well Q infers the code of the samples for z, from D's outputs for them.

        The first result is L_I of the discrete part, E log Q(c | x) + log(codes) in nats. The
        second is the mean squared error of the continuous part, or None if there is none.
        """
        noise, c = z
        logits, means = self.read_q(outputs)
        if len(logits) != len(c):
            raise UserError(f"Q inferred {len(logits)} codes for {len(c)} samples: leave "
                            "views.Pack out")
        information = math.log(self.codes) - cross_entropy(logits, c)
        if not self.continuous:
            return information, None
        return information, ((noise[:, self.z_size:] - means) ** 2).mean()

    def information_terms(self, information: Tensor, error: Tensor | None) -> list[Tensor]:
        """List the terms of -lam L_I, from what measure_code() returned.

        The constants of the continuous part, which have no gradient, are left out.
        """
        terms = [-self.lam * information]
        if error is not None:
            # -log N(c; mean, 1), summed over the numbers, is half the sum of the squared errors
            terms.append(self.lam * self.continuous / 2 * error)
        return terms

    def d_terms(self, x: Any, z: Any, fake: Any, out_real: Any, out_fake: Any) -> list[Tensor]:
        """List the terms of -lam L_I, by which Q learns, and log how well it does."""
        information, error = self.measure_code(z, out_fake)
        self.log("L_I", information)
        if error is not None:
            self.log("code error", error)
        return self.information_terms(information, error)

    def g_terms(self, x: Any, z: Any, fake: Any, out_fake: Any) -> list[Tensor]:
        """List the terms of -lam L_I, by which G makes the code visible; none unless `on_g`."""
        return self.information_terms(*self.measure_code(z, out_fake)) if self.on_g else []

    def infer(self, x: Array) -> tuple[Array, Array]:
        """Return Q's most probable discrete code (m,) and its means (m, continuous) for images."""
        with eval_mode(self.D), no_grad():
            logits, means = self.read_q(self.D(Tensor(x)))
        return logits.data.argmax(1), means.data

    def discrete_codes(self, z: Any) -> Array:
        """Return the discrete part of the code of the samples for z."""
        return z[1]

    # Pictures

    def fixed_inputs(self, split: Any, n: int, rng: Random) -> tuple[Tensor, Array]:
        """Draw about n inputs, rows of samples in each of which one part of the code changes.

        First come rows in which the discrete part takes each value, then rows in which a continuous
        number goes from -2 to 2, as in figure 2 of the paper. The rest of an input stays the same
        in its row.
        """
        parts = 1 + self.continuous
        rows = max(n // self.codes // parts, 1)             # for each part of the code
        noise, c = self.latent(parts * rows, rng)
        noise, c = noise.data.repeat(self.codes, 0), c.repeat(self.codes)
        steps = rows * self.codes                           # inputs for each part of the code
        c[:steps] = backend.xp.tile(backend.xp.arange(self.codes), rows)
        for i in range(self.continuous):
            noise[(1 + i) * steps:(2 + i) * steps, self.z_size + i] = backend.xp.tile(
                backend.xp.linspace(-2, 2, self.codes, dtype="float32"), rows)
        return Tensor(noise), c

    def pictures(self, z: Any) -> tuple[Array, int]:
        """Return the samples; a part of the code changes along each row."""
        return self.sample_images(z), self.codes

"""The workloads of benchmark.py with PyTorch and with JAX, which must be installed for it.

A function returns the function that runs one iteration: a step of each player, or of the critic
alone (wgan_gp). `workload` is a name of benchmark.BATCH, m the size of a minibatch, and `backend`
that of tinygan: "numpy", or "cupy" or "cupy-tf32" for a GPU.
"""

from collections.abc import Callable


def torch_iteration(workload: str, m: int, backend: str, graph: bool = False
                    ) -> Callable[[], None]:
    """Return a function that runs one iteration of the same workload with PyTorch.

    On a GPU, products round to TensorFloat-32 if the backend is "cupy-tf32". With `graph`, the
    iteration is recorded as a CUDA graph and launched as a whole.
    """
    import torch
    from torch import nn
    from torch.nn.functional import softplus
    from torch.nn.utils.parametrizations import spectral_norm
    device = "cpu" if backend == "numpy" else "cuda"
    torch.backends.cuda.matmul.allow_tf32 = backend == "cupy-tf32"
    torch.backends.cudnn.allow_tf32 = backend == "cupy-tf32"
    x_shape, z_size = ((2,), 2) if workload == "plane" else ((1, 28, 28), 100)
    x = torch.rand(m, *x_shape, device=device)

    class Maxout(nn.Linear):
        def __init__(self, n_in, n_out, pieces):
            super().__init__(n_in, n_out * pieces)
            self.shape = (-1, pieces, n_out)

        def forward(self, x):
            return super().forward(x).view(self.shape).amax(1)

    if workload == "gan":
        G = nn.Sequential(nn.Linear(100, 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU(),
                          nn.Linear(1200, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))
        D = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), Maxout(784, 240, 5),
                          nn.Dropout(0.5), Maxout(240, 240, 5), nn.Dropout(0.5), nn.Linear(240, 1))
    elif workload == "plane":
        G, D = (nn.Sequential(nn.Linear(2, 128), activation(), nn.Linear(128, 128), activation(),
                              nn.Linear(128, 128), activation(), nn.Linear(128, n))
                for n, activation in ((2, nn.ReLU), (1, lambda: nn.LeakyReLU(0.2))))
    else:
        normalised = spectral_norm if workload == "sngan" else lambda layer: layer
        norm = [nn.BatchNorm2d(128)] if workload == "dcgan" else []
        G = nn.Sequential(nn.Linear(100, 6272), nn.BatchNorm1d(6272), nn.ReLU(),
                          nn.Unflatten(1, (128, 7, 7)),
                          nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
                          nn.ConvTranspose2d(64, 1, 4, 2, 1), nn.Sigmoid())
        D = nn.Sequential(normalised(nn.Conv2d(1, 64, 4, 2, 1)), nn.LeakyReLU(0.2),
                          normalised(nn.Conv2d(64, 128, 4, 2, 1)), *norm, nn.LeakyReLU(0.2),
                          nn.Flatten(), normalised(nn.Linear(6272, 1)))

    def optimizer(player):
        if workload == "gan":
            return torch.optim.SGD(player.parameters(), 0.1, 0.5)
        return torch.optim.Adam(player.parameters(), 2e-4, (0.5, 0.999), capturable=graph)
    G.to(device), D.to(device)
    d_opt, g_opt = optimizer(D), optimizer(G)

    def d_loss(z):
        with torch.no_grad():
            x_fake = G(z)
        if workload == "sngan":
            return (1 - D(x)).relu().mean() + (1 + D(x_fake)).relu().mean()
        if workload == "wgan_gp":
            eps = torch.rand(m, 1, 1, 1, device=device)
            x_hat = (eps * x + (1 - eps) * x_fake).requires_grad_()
            (gradient,) = torch.autograd.grad(D(x_hat).sum(), x_hat, create_graph=True)
            penalty = ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
            return D(x_fake).mean() - D(x).mean() + 10 * penalty
        return softplus(-D(x)).mean() + softplus(D(x_fake)).mean()

    def g_loss(z):
        return -D(G(z)).mean() if workload == "sngan" else softplus(-D(G(z))).mean()

    def iteration():
        d_opt.zero_grad(set_to_none=True)
        d_loss(torch.randn(m, z_size, device=device)).backward()
        d_opt.step()
        if workload != "wgan_gp":
            D.requires_grad_(False)             # good practice in PyTorch: G's step does not need
            g_opt.zero_grad(set_to_none=True)   # the gradients of D's weights
            g_loss(torch.randn(m, z_size, device=device)).backward()
            g_opt.step()
            D.requires_grad_(True)
    if not graph:
        return iteration
    stream = torch.cuda.Stream()                # PyTorch's own recipe for a whole iteration
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            iteration()
    torch.cuda.current_stream().wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        iteration()
    return recorded.replay


def jax_iteration(workload: str, m: int, backend: str) -> Callable[[], None]:
    """Return a function that runs one iteration of the same workload with JAX, compiled."""
    import jax
    from jax import lax, nn, numpy as np, random
    keys = iter(random.split(random.key(0), 20))
    x_shape, z_size = ((2,), 2) if workload == "plane" else ((28, 28, 1), 100)
    x = random.uniform(next(keys), (m, *x_shape))

    def layer(*shape):
        return {"w": 0.02 * random.normal(next(keys), shape), "b": np.zeros(shape[-1])}

    def dense(p, h):
        return h @ p["w"] + p["b"]

    def drop(key, h, p):
        return np.where(random.bernoulli(key, 1 - p, h.shape), h / (1 - p), 0)

    def maxout(p, h):
        return dense(p, h).reshape(len(h), 5, 240).max(1)

    def conv(p, h):
        return lax.conv_general_dilated(h, p["w"], (2, 2), ((1, 1), (1, 1)),
                                        dimension_numbers=("NHWC", "HWIO", "NHWC")) + p["b"]

    def enlarge(p, h):
        return lax.conv_transpose(h, p["w"], (2, 2), "SAME",
                                  dimension_numbers=("NHWC", "HWIO", "NHWC")) + p["b"]

    def norm(p, h):
        axes = tuple(range(h.ndim - 1))
        return (h - h.mean(axes)) / np.sqrt(h.var(axes) + 1e-5) * p["w"][0] + p["b"]

    def leaky(h):
        return nn.leaky_relu(h, 0.2)

    if workload == "gan":
        G = [layer(100, 1200), layer(1200, 1200), layer(1200, 784)]
        D = [layer(784, 1200), layer(240, 1200), layer(240, 1)]

        def draw(G, z):
            h = nn.relu(dense(G[1], nn.relu(dense(G[0], z))))
            return nn.sigmoid(dense(G[2], h)).reshape(m, 28, 28, 1)

        def score(D, x, key):
            a, b, c = random.split(key, 3)
            h = maxout(D[0], drop(a, x.reshape(m, 784), 0.2))
            return dense(D[2], drop(c, maxout(D[1], drop(b, h, 0.5)), 0.5))
    elif workload == "plane":
        G, D = ([layer(2, 128), layer(128, 128), layer(128, 128), layer(128, n)] for n in (2, 1))

        def draw(G, h):
            for p in G[:3]:
                h = nn.relu(dense(p, h))
            return dense(G[3], h)

        def score(D, h, key):
            for p in D[:3]:
                h = leaky(dense(p, h))
            return dense(D[3], h)
    else:
        G = [layer(100, 6272), layer(1, 6272), layer(4, 4, 128, 64), layer(1, 64),
             layer(4, 4, 64, 1)]
        D = [layer(4, 4, 1, 64), layer(4, 4, 64, 128), layer(6272, 1), layer(1, 128)]

        def draw(G, z):
            h = nn.relu(norm(G[1], dense(G[0], z))).reshape(m, 7, 7, 128)
            return nn.sigmoid(enlarge(G[4], nn.relu(norm(G[3], enlarge(G[2], h)))))

        def normalise(p):           # one power iteration from a constant vector
            if workload != "sngan":
                return p
            w = lax.stop_gradient(p["w"].reshape(-1, p["w"].shape[-1]))
            v = w @ np.ones(w.shape[1])
            v = v / np.linalg.norm(v)
            u = v @ w
            sigma = (v @ p["w"].reshape(w.shape)) @ (u / np.linalg.norm(u))
            return {"w": p["w"] / sigma, "b": p["b"]}

        def score(D, x, key):
            h = conv(normalise(D[1]), leaky(conv(normalise(D[0]), x)))
            h = leaky(norm(D[3], h) if workload == "dcgan" else h)
            return dense(normalise(D[2]), h.reshape(m, 6272))

    def d_loss(D, G, key):
        a, b, c, d = random.split(key, 4)
        fake = lax.stop_gradient(draw(G, random.normal(a, (m, z_size))))
        real_score, fake_score = score(D, x, b), score(D, fake, c)
        if workload == "sngan":
            return nn.relu(1 - real_score).mean() + nn.relu(1 + fake_score).mean()
        if workload == "wgan_gp":
            eps = random.uniform(d, (m, 1, 1, 1))
            slope = jax.grad(lambda x: score(D, x, d).sum())(eps * x + (1 - eps) * fake)
            lengths = np.sqrt((slope ** 2).sum((1, 2, 3)))
            return fake_score.mean() - real_score.mean() + 10 * ((lengths - 1) ** 2).mean()
        return nn.softplus(-real_score).mean() + nn.softplus(fake_score).mean()

    def g_loss(G, D, key):
        a, b = random.split(key)
        fake_score = score(D, draw(G, random.normal(a, (m, z_size))), b)
        return -fake_score.mean() if workload == "sngan" else nn.softplus(-fake_score).mean()

    def update(p, gradient, state):
        """Return a parameter and its optimiser's state after a step of SGD or Adam."""
        if workload == "gan":
            velocity = 0.5 * state[0] - 0.1 * gradient
            return p + velocity, (velocity,)
        t, mean, square = state[0] + 1, *state[1:]
        mean, square = 0.5 * mean + 0.5 * gradient, 0.999 * square + 0.001 * gradient ** 2
        step = mean / (1 - 0.5 ** t) / (np.sqrt(square / (1 - 0.999 ** t)) + 1e-8)
        return p - 2e-4 * step, (t, mean, square)

    def update_all(player, gradients, states):
        leaves, tree = jax.tree.flatten(player)
        new = [update(p, g, s) for p, g, s in zip(leaves, jax.tree.leaves(gradients), states)]
        return jax.tree.unflatten(tree, [p for p, _ in new]), [s for _, s in new]

    def step(G, D, g_states, d_states, key):
        key, a, b = random.split(key, 3)
        D, d_states = update_all(D, jax.grad(d_loss)(D, G, a), d_states)
        if workload != "wgan_gp":
            G, g_states = update_all(G, jax.grad(g_loss)(G, D, b), g_states)
        return G, D, g_states, d_states, key
    zeros = lambda player: [(np.zeros_like(p),) if workload == "gan" else
                            (0.0, np.zeros_like(p), np.zeros_like(p))
                            for p in jax.tree.leaves(player)]
    compiled = jax.jit(step, donate_argnums=(0, 1, 2, 3))
    state = [G, D, zeros(G), zeros(D), next(keys)]

    def iteration():
        state[:] = compiled(*state)
        jax.block_until_ready(state)
    return iteration

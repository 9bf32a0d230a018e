"""tinygan: a reference implementation of generative adversarial networks, made for reading.

The modules, each of which imports only from those before it: cpu, context, numbers, pytorch,
backend, cuda, random, search, tensor, ops, channels, im2col, conv, resampling, nested, nn,
schedules, optim, graphs, gradcheck, files, data, networks, games, loop, metrics, runs. cuda is
imported by backend.use(), and graphs by the first training step, both with cupy only.
"""

from . import (backend, channels, context, conv, cpu, data, files, games, gradcheck, im2col, loop,
               metrics, nested, networks, nn, numbers, ops, optim, random, resampling, runs,
               schedules, search, tensor)
from .backend import VERSION as __version__, UserError, to_numpy, use
from .gradcheck import check_grads
from .loop import play
from .random import Random, rng
from .runs import Run, checkpoint, command, image, plot, record
from .runs.checkpoint import load
from .tensor import Tensor, enable_grad, grad, no_grad, op

"""tinygan: generative adversarial networks to read, on an autograd engine of their own.

The floors, each importing only from those before it: backend, tensor, ops, conv, nn, optim,
gradcheck, games, loop, files, data, metrics, image, plot, checkpoint, record, run.
"""

from . import (backend, checkpoint, conv, data, files, games, gradcheck, image, loop, metrics, nn,
               ops, optim, plot, record, run, tensor)
from .backend import VERSION as __version__, UserError, rng, to_numpy, use
from .checkpoint import load
from .gradcheck import check_grads
from .loop import play
from .tensor import Tensor, grad, no_grad, op

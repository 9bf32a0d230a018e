"""How good are the samples."""

from .modes import coverage

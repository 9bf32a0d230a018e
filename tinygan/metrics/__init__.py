"""How good are the samples."""

from .coverage import coverage

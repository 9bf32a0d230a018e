"""What samples are worth."""

from .modes import Coverage, coverage
from .nearest import nearest

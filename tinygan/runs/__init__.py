"""What a person sees and keeps of a run.

    run         a run: how it starts, goes on and is stopped
    command     the command line of a script
    record      what is shown while it goes, and the files that stay
    checkpoint  a run in one file
    description a game in words, from which it is made anew
    image       pictures, still and moving
    plot        curves
"""

from . import checkpoint, command, description, image, plot, record
from .run import Run

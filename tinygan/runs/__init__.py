"""Training runs: how they are started, stopped and resumed, and the files that they write.

    run         a run: training a game, stopping, resuming
    command/    the command line of a training script
    record      the progress line, and the files in a run's folder
    checkpoint  the state of a run in one file
    unsaved     what a checkpoint does not save, and so must not change
    description how a game was made, as JSON, from which it can be made again
    image       PNG pictures, also animated
    plot        curves as SVG
"""

from . import checkpoint, command, description, image, plot, record, unsaved
from .run import Run

"""The command line of training scripts.

    flags    the flags: their defaults, their presets such as --paper, and --resume
    saved    what a script saves with its run: the flags, the data, and how to find them again
    script   a script from its start to its end: output folder, data, run, error messages
"""

from .flags import (EXPLANATION, above_0, add_preset, add_task, fraction, from_0, game_parser,
                    make_parser, parse, positive, refuse_unused, run_parser, share, to_flags,
                    whole)
from .saved import (NOT_SAVED, digest, find_run, list_known, list_runs, list_stages, load,
                    load_data, make_settings, read, read_data)
from .script import (DRY_RUN, check_writable, main, play, prepare_output, print_row,
                     processor_name, read_rows, start, train)

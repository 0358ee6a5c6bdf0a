"""The end of a process that has done its work: all handlers run, all output out, nothing torn down.

Taking modules and NumPy apart, one object after the other, is a tenth of a small command; the
system frees the memory of a process at once.
"""

import os
import sys


def leave_process(ended: list[object]) -> None:
    """End the process with the code that `ended` holds; an exit handler, the first registered.

    Exit handlers run from the last registered to the first, so that those of all libraries have run
    by then. Where `ended` holds no code, or the output cannot be written, it does nothing: the
    interpreter ends the process, and says what happened.
    """
    if not ended or not isinstance(ended[0], int):
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    os._exit(ended[0])

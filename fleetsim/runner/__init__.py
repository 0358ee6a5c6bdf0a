"""One run from outside, by papermill or by the library."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "engines": "check_notebook execute_notebook RunOptions",
        "mirror": "Mirror mirrored",
        "run": "execute Outcome",
        "warm": "LIKELY Nursery",
        "watch": "Watch",
    },
)

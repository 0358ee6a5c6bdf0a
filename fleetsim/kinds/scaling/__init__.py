"""How time and memory grow with the size of a batch."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "run": "open_scaling ScalingRun",
    },
)

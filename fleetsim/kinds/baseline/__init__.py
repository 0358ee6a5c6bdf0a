"""Batches by cold processes, their content held to its law, their time and memory."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "run": "Run",
    },
)

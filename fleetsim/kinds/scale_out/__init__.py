"""What workers, tasks and a scheduler cost."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "run": "open_scale_out ScaleOutRun",
    },
)

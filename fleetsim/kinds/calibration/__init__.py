"""The tests tested: fault-free seeds by the thousand, and controls that must fail."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "run": "CalibrationRun open_calibration",
    },
)

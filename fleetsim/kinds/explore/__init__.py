"""Play with the truth behind the data, in memory; it runs no experiment."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "panel": "open_panel",
        "playground": "driver_day Exploration explore explored_config faults_table kept_run",
    },
)

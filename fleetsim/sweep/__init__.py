"""A grid of runs: planned, run, resumed, analysed."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "plan": "plan_sweep",
        "report": "failures_text open_sweep render_sweep SweepReport",
        "results": "end_table listing plan_table sweep_results SweepResults",
        "run": "Progress run_sweep",
        "worker": "SweepOptions",
    },
)

"""Any command that ingests files, under test: what it loses, alters, doubles or invents."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "elsewhere": "page_of reconcile_landing",
        "run": "open_pipeline PipelineRun",
    },
)

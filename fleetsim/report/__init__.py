"""What people read: reports of runs, lists, the gallery."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "audit_page": "write_audit_page",
        "compare.again": "Again measure_again plan_again",
        "compare.compare": "compare_runs",
        "compare.page": "comparison_text page_of write_comparison",
        "gallery": "GALLERY_NAME leading_page refresh_gallery SWEEP_HTML write_gallery",
        "glossary": "glossary_text",
        "html": "render_html prepare_html",
        "listing": "list_runs RUN_FAILED runs_table select_runs sort_runs",
        "run_report": "attach_notebook check_report clean_notebook render_report REPORT_HTML "
        "REPORT_NOTEBOOK",
    },
)

"""What every experiment has: claims, parameters, check, record, document, steps of a run."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "answer": "Answer known_answer Outlook",
        "check": "Check check_experiment defects_table remedy_text",
        "criterion": "by_contents by_intervals certain CLAIMED Criterion CriterionKind Judgement "
        "limits_of MB measured Rule undecided",
        "drawing": "named_drawers start_drawers",
        "document": "by_chance HARDLY_WORDS planned_record power_table POWER_WORDS "
        "render_document template verdict_table",
        "expectation": "bytes_per_event Expectation expected_line_bytes Remedy tolerance_limits",
        "figures": "DARK draw_counts draw_gaps draw_over_interval draw_types drawn LIGHT MIDDLE "
        "no_event Plot printable render render_png sentence ShownFigure SIGNAL tick_label "
        "titled_figure",
        "grid": "grid_points grid_size",
        "kept": "EVIDENCE_NAME FIGURES FIGURES_FOLDER LATER NOW PLOT_MARK read_evidence",
        "kind": "Costs DEFAULT_KIND EXPLORE Kind kinds SWEEP",
        "notebook": "cell_values notebook_parameters parameters_of take_parameters",
        "parameters": "check_parameters CONFIGURATION CONTROL_SEEDS ControlSeeds EXPERIMENT "
        "Interval LARGEST_EVENTS LargestEvents MIN_REPEATS noted Parameter Repeats REPEATS "
        "Replicates REPLICATES RESULTS",
        "prospects": "battery_prospect count_law_prospect count_range_prospect Prospect "
        "size_law_prospect spread_prospect type_prospect variation_prospect",
        "record": "cpu_model CriterionRecord decode_record Measurements overall_line read_record "
        "read_run Record versions",
        "rule_plot": "rule_figure",
        "results": "clear_results ENDED Engine find_run Head LATEST latest_beside one_line "
        "own_folder read_record_file read_versioned RECORD_NAME refuse_links RunError Status "
        "SWEEP_FIGURES",
        "spec": "Experiment load_experiment Spec with_parameters",
        "starter": "find_notebook FIRST init_project new_experiment",
        "steps": "BaseRun check_table DOCUMENT_NAME mark_of open_run provenance_of publish_run "
        "run_class run_key RUN_MARK run_name sample_lines Summary write_run_files",
    },
)

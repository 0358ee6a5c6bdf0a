"""Statistical tests: plain functions on arrays and numbers, and the battery that runs them."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "adjust": "benjamini_hochberg holm",
        "answers": "answer answers_line answers_table tests_table",
        "battery": "BATTERY entries Entry EntryKind family_size without_roster",
        "categories": "category_equivalence_test category_test independence_test share_intervals",
        "controls": "Control control_faults CONTROLS",
        "counts": "dispersion_test poisson_count_test poisson_equivalence_test poisson_fit_test "
        "poisson_interval two_sample_rate_test",
        "defects": "added defect_entry defect_test",
        "draws": "draw_columns sample_of",
        "driver_tests": "gap_cells",
        "effects": "clean_share COPIES delivered_share law_of",
        "growth": "fit_power_law log_slope PowerLaw",
        "judged": "judge_tests Made make_tests record_test run_battery Test",
        "linear": "CONFIDENCE Estimate fit_linear LinearLaw",
        "offsets": "edge_test spacing_test uniformity_test",
        "power": "category_outcome category_power detectable_dispersion dispersion_outcome "
        "dispersion_power dispersion_reach Outcome poisson_acceptance poisson_between "
        "poisson_outside POWER variation_limits variation_outcome",
        "result": "TestResult",
        "order": "InOrder table_of time_cell TIME_CELLS",
        "sample": "Columns DefectCounts LATE Sample TypeTables",
        "times": "cells_for many_ties_across PLOT_CELLS tied_batches times_of",
        "two_samples": "dispersion_ratio homogeneity_test largest_shift MIN_PAIRS paired_test "
        "rank_test",
        "variation": "variation_interval",
        "where": "Names",
    },
)

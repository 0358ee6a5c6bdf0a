"""Statistical tests: plain functions on arrays and numbers, and the battery that runs them."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    result="TestResult",
    counts="poisson_count_test poisson_interval poisson_equivalence_test poisson_fit_test "
    "dispersion_test two_sample_rate_test",
    categories="category_test category_equivalence_test independence_test share_intervals",
    offsets="uniformity_test edge_test spacing_test uniformity_of edge_of",
    variation="variation_interval",
    adjust="holm benjamini_hochberg",
)

"""Deliveries: which batch arrives when and how, written into a landing folder."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "arrivals": "arrivals_of",
        "feed": "Batches batches_of config_of_feed FeedPlan open_feed pace "
        "read_deliveries_of read_plan",
        "landing": "half_of Landing",
        "plan": "CUT Delivery Relation read_deliveries read_variants relation",
    },
)

"""What a pipeline made of delivered batches: one outcome a line, exactly."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "compare": "accepted_difference outcome_difference",
        "delivered": "Arrival",
        "outcome": "reconcile",
        "outputs": "ACCEPTED ACCEPTED_KEY check_queries Queries REJECTED REJECTED_KEY "
        "UnreadableOutputError",
        "result": "Balance Came CLEAN FRAGMENT OUTCOMES Reconciliation SURPLUS UNEXPECTED "
        "WrongLine",
    },
)

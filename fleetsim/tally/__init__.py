"""Foreign files, read to sufficient statistics and to what is wrong in them."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "audit": "Audit audit_data audit_text bytes_to_read Group kind_counts kinds_table names_of",
        "batches": "Tally tally_batches",
        "duck": "confine first_words one_select open_duck quoted",
        "faults": "FaultKind faults_table",
        "folder": "events_files",
        "values": "read_times",
    },
)

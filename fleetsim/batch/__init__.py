"""Batches on a disk or an object store: planned, written whole or not at all, made again."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "companies": "read_companies write_companies",
        "dataset": "COMPANIES_NAME data_folder EVENTS_FOLDER events_folders LEDGER_FOLDER "
        "ledger_name RAW_FOLDER RUN_DATA RUN_EVENTS",
        "formats": "damaged FORMATS TEXT_TYPES TIME_TYPES",
        "ledger": "ledger_path LedgerEntry read_ledger",
        "memory": "EventBatch generate_batch make_fleet",
        "meta": "BatchMeta DROPPED_NAME EVENTS_NAME in_time META_NAME read_meta",
        "parts": "PART_EVENTS parts_on tasks_of",
        "plan": "WriteOptions",
        "publish": "UPLOAD",
        "rows": "read_rows",
        "verify": "verify_below",
        "write": "write_batches",
    },
)

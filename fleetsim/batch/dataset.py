"""Where the files of a data set stand: the companies, the batches, and the data set of a run."""

from __future__ import annotations

from pathlib import Path

from fleetsim.base.storage import is_remote

#: A data set is this file and this folder of batches.
COMPANIES_NAME, EVENTS_FOLDER = "companies.jsonl", "events"
#: The folder of the ledgers of injected defects, beside that of the batches.
LEDGER_FOLDER = "ledger"
#: The data set, in the folder where a generator is run that has its configuration beside it.
RAW_FOLDER = "raw"
#: The folder of a run where it makes its data.
RUN_DATA = "data"
#: The folder of batches, in that of a run.
RUN_EVENTS = f"{RUN_DATA}/{RAW_FOLDER}/{EVENTS_FOLDER}"


def ledger_name(batch_id: str, part: str | None = None) -> str:
    """Return the name of a ledger's file: after its batch, or after the part's file it is of."""
    return f"{batch_id if part is None else part.partition('.')[0]}.jsonl"


def data_folder(batch: Path) -> Path:
    """Return the data set that holds a batch."""
    return (batch if is_remote(batch) else batch.resolve()).parent.parent


def events_folders(path: Path) -> tuple[Path, Path]:
    """Return where the batches stand if a folder is that of a run, and if it is a data set."""
    return path / RUN_EVENTS, path / EVENTS_FOLDER

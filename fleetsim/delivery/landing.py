"""A landing folder: batches appear in it as a feed delivers them."""

from __future__ import annotations

import shutil
from pathlib import Path

from fleetsim.base.files import publish_folder, remove, staging_folder, write_file
from fleetsim.batch.dataset import COMPANIES_NAME, EVENTS_FOLDER
from fleetsim.batch.meta import EVENTS_NAME
from fleetsim.delivery.plan import COPY, CUT, Delivery


class Landing:
    """A landing folder on this machine.

    Parameters
    ----------
    folder : Path
        Made here, with ``companies.jsonl``.
    companies : Path
    """

    def __init__(self, folder: Path, companies: Path) -> None:
        self.folder, self._companies = folder, companies
        self._events = folder / EVENTS_FOLDER
        self._events.mkdir(parents=True, exist_ok=True)
        if not (folder / COMPANIES_NAME).exists():
            write_file(folder / COMPANIES_NAME, companies.read_bytes())

    def deliver(self, source: Path, delivery: Delivery) -> Path:
        """Let the batch of a folder arrive; return the folder that it arrived in.

        A whole one appears by renaming, and replaces the one of its name. What a pipeline has
        deleted around it is made again.
        """
        self._events.mkdir(parents=True, exist_ok=True)
        final = self._events / folder_name(source, delivery)
        if delivery.form == CUT:
            remove(final)
            final.mkdir()
            (final / EVENTS_NAME).write_bytes(half_of(source / EVENTS_NAME))
            return final
        with staging_folder(final) as partial:
            for file in sorted(source.iterdir()):
                shutil.copyfile(file, partial / file.name)
            publish_folder(partial, final, replace=True)
        return final

    def is_intact(self) -> bool:
        """Return whether the companies are as they were, and the folder of batches is there."""
        copy = self.folder / COMPANIES_NAME
        try:
            same = copy.read_bytes() == self._companies.read_bytes()
        except OSError:
            return False
        return same and self._events.is_dir()


def folder_name(source: Path, delivery: Delivery) -> str:
    """Return the name of the folder that a batch arrives in."""
    return f"{source.name}-copy" if delivery.form == COPY else source.name


def half_of(path: Path) -> bytes:
    """Return the first half of a file, which ends within a line."""
    content = path.read_bytes()
    half = len(content) // 2
    while half and content[half - 1 : half] == b"\n":
        half -= 1
    return content[:half]

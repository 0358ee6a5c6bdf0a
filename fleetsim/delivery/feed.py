"""A feed that delivers on a clock into a landing folder, of this machine or of a storage.

Beside the landing folder's ``companies.jsonl`` and ``events/`` stand ``ledger/``, for who wants to
know what was injected, and ``deliveries.jsonl``, one row for each delivery that is complete. From
these two the deliveries are known again: to go on where a feed was ended, and to reconcile.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec

from fleetsim.base.clock import Instant, format_time, parse_time
from fleetsim.base.errors import InputError
from fleetsim.base.files import exclusive, make_folder, write_file
from fleetsim.base.storage import is_remote, require, told
from fleetsim.base.strict import decoder
from fleetsim.batch.companies import read_companies, write_companies
from fleetsim.batch.dataset import COMPANIES_NAME, EVENTS_FOLDER, LEDGER_FOLDER
from fleetsim.batch.ledger import ledger_path
from fleetsim.batch.meta import EVENTS_NAME, META_NAME
from fleetsim.batch.plan import WriteOptions
from fleetsim.batch.write import write_batches
from fleetsim.delivery.landing import Landing, folder_name, half_of
from fleetsim.delivery.plan import CUT, FORMS, WHOLE, Delivery
from fleetsim.generate.config import Config, make_config

DELIVERIES_NAME, FEED_NAME = "deliveries.jsonl", "feed.json"
#: In what two plans may differ, and what messages call it.
_TOLD = {
    "config": "configuration",
    "interval": "interval",
    "variant": "variant",
    "deliveries": "list of deliveries",
}


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """One complete delivery: a row of ``deliveries.jsonl``.

    Attributes
    ----------
    step : int
        From 1.
    batch_id, path : str
        The batch, and its folder below the landing folder.
    bytes, sha256 : int, str
        Of the file of events as it was delivered.
    time : str
        When it was complete.
    batch, form : int, str
        What `Delivery` has.
    """

    step: int
    batch_id: str
    path: str
    bytes: int
    sha256: str
    time: str
    batch: Annotated[int, msgspec.Meta(ge=0)]
    form: Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(FORMS)})$")] = WHOLE


class FeedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a feed delivers, as ``ledger/feed.json`` keeps it: enough to make every batch again."""

    config: dict[str, Any]
    interval: str
    variant: str
    deliveries: tuple[Delivery, ...]


decoder(Delivered)  # made with the module, before there are threads
decoder(FeedPlan)


class Batches:
    """Makes the batches of a configuration one by one, in a folder that nobody else sees.

    Parameters
    ----------
    config : Config
    interval : str
        ISO 8601 start of the interval of ordinal 0.
    folder : Path
    """

    def __init__(self, config: Config, interval: str, folder: Path) -> None:
        self._config, self._start_us, self._folder = config, parse_time(interval), folder
        self.companies = folder / COMPANIES_NAME
        write_companies(config, self.companies, at_us=self._start_us, now_us=self._start_us)
        self._fleet = read_companies(self.companies)

    def make(self, ordinal: int) -> Path:
        """Return the folder of a batch; it is made where it was not yet."""
        options = WriteOptions(ordinal=ordinal, allow_empty=True)
        start_us = self._start_us + ordinal * self._config.interval_us
        output = self._folder / EVENTS_FOLDER
        made = write_batches(
            self._config,
            self._fleet,
            output,
            start_us=start_us,
            started=Instant.now(),
            options=options,
        )
        return next(iter(list(made))).path


@contextmanager
def batches_of(config: Config, interval: str) -> Iterator[Batches]:
    """Yield what makes the batches of a configuration, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fleetsim-feed-") as folder:
        yield Batches(config, interval, Path(folder))


class Feed:
    """Deliveries into one landing folder.

    Parameters
    ----------
    landing : Path
        Of this machine, or of a storage.
    plan : FeedPlan
    batches : Batches
    """

    def __init__(self, landing: Path, plan: FeedPlan, batches: Batches) -> None:
        self._landing, self._plan, self._batches = landing, plan, batches
        self.done = self._begin()

    def _begin(self) -> list[Delivered]:
        """Return what was delivered before; the folder has to be new, or of the same feed."""
        there = read_plan(self._landing)
        if there is None:
            if taken := self._there(COMPANIES_NAME, EVENTS_FOLDER, DELIVERIES_NAME):
                raise self._refusal(f"{', '.join(taken)}, which no feed delivered")
            self._put(f"{LEDGER_FOLDER}/{FEED_NAME}", msgspec.json.encode(self._plan) + b"\n")
        elif other := [name for name in _TOLD if getattr(there, name) != getattr(self._plan, name)]:
            raise self._refusal(
                f"the deliveries of another feed ({there.variant} from {there.interval} on; "
                f"another {', '.join(_TOLD[name] for name in other)})"
            )
        # A feed may have been ended before the first delivery, with the plan alone.
        if not self._there(DELIVERIES_NAME, EVENTS_FOLDER):
            self._put(COMPANIES_NAME, self._batches.companies.read_bytes())
            self._put(DELIVERIES_NAME, b"")
        return read_deliveries_of(self._landing)

    def _there(self, *names: str) -> list[str]:
        with told(self._landing):
            return [name for name in names if (self._landing / name).exists()]

    def _refusal(self, what: str) -> InputError:
        return InputError(
            str(self._landing),
            f"found {what}; allowed: an empty folder, or one of this experiment, variant and "
            "configuration",
            next_step="choose another folder, or delete this one",
        )

    def deliver(self, delivery: Delivery) -> Delivered:
        """Let the next batch arrive, then enter it; an end between the two delivers it again."""
        source = self._batches.make(delivery.batch)
        ledger = ledger_path(source)
        if ledger.is_file():
            self._put(f"{LEDGER_FOLDER}/{ledger.name}", ledger.read_bytes())
        events = source / EVENTS_NAME
        content = half_of(events) if delivery.form == CUT else events.read_bytes()
        name = folder_name(source, delivery)
        self._arrive(source, delivery, name, content)
        row = Delivered(
            step=len(self.done) + 1,
            batch_id=source.name,
            path=f"{EVENTS_FOLDER}/{name}",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            time=format_time(Instant.now().wall_us),
            batch=delivery.batch,
            form=delivery.form,
        )
        rows = [*self.done, row]
        self._put(DELIVERIES_NAME, b"".join(msgspec.json.encode(one) + b"\n" for one in rows))
        self.done = rows
        return row

    def _arrive(self, source: Path, delivery: Delivery, name: str, content: bytes) -> None:
        if not is_remote(self._landing):
            events = self._landing / EVENTS_FOLDER
            make_folder(events)
            with exclusive(events):
                Landing(self._landing, self._batches.companies).deliver(source, delivery)
            return
        # An object appears whole; a batch is whole once its record is there.
        folder = f"{EVENTS_FOLDER}/{name}"
        with told(self._landing):
            (self._landing / folder / META_NAME).unlink(missing_ok=True)
        self._put(f"{folder}/{EVENTS_NAME}", content)
        if delivery.form != CUT:
            self._put(f"{folder}/{META_NAME}", (source / META_NAME).read_bytes())

    def _put(self, name: str, content: bytes) -> None:
        path = self._landing / name
        if is_remote(self._landing):
            with told(self._landing):
                path.write_bytes(content)
            return
        make_folder(path.parent)
        write_file(path, content)


@contextmanager
def open_feed(landing: Path, plan: FeedPlan, batches: Batches) -> Iterator[Feed]:
    """Yield the feed into a landing folder.

    On this machine it is the only one as long as it is open: another one waits. What a killed one
    left unfinished is cleared.

    Parameters
    ----------
    landing : Path
        Of this machine, or of a storage.
    plan : FeedPlan
    batches : Batches

    Raises
    ------
    InputError
        Where the folder has the deliveries of another feed, or what no feed delivered.
    """
    if is_remote(landing):
        require(landing)
        yield Feed(landing, plan, batches)
        return
    make_folder(landing)
    with exclusive(landing, "*.jsonl"):
        ledger = landing / LEDGER_FOLDER
        if ledger.is_dir():
            with exclusive(ledger, "*.json*"):
                pass  # it clears
        yield Feed(landing, plan, batches)


def read_plan(landing: Path) -> FeedPlan | None:
    """Return what a landing folder's feed delivers, or None where none began there."""
    path = landing / LEDGER_FOLDER / FEED_NAME
    with told(landing):
        if not path.exists():
            return None
        content = path.read_bytes()
    plan: FeedPlan = _decoded(content, path, FeedPlan)
    return plan


def read_deliveries_of(landing: Path) -> list[Delivered]:
    """Return the complete deliveries of a landing folder.

    Raises
    ------
    InputError
        Where ``deliveries.jsonl`` is missing or damaged.
    """
    path = landing / DELIVERIES_NAME
    try:
        with told(landing):
            content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(
            str(path), "missing; allowed: a folder that fleetsim deliver has filled"
        ) from None
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        row: Delivered = _decoded(line, path, Delivered, f"line {number}: ")
        if row.step != number:
            raise InputError(
                str(path), f"damaged: line {number}: found step {row.step}; allowed: {number}"
            )
        rows.append(row)
    return rows


def _decoded(content: bytes, path: Path, form: Any, where: str = "") -> Any:
    try:
        return decoder(form).decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"damaged: {where}{error}") from None


def config_of_feed(plan: FeedPlan) -> Config:
    """Return the configuration of a feed."""
    return make_config(plan.config)


def pace(
    deliveries: Sequence[Delivery], seconds: float, wait: Callable[[float], object] = time.sleep
) -> Iterator[Delivery]:
    """Yield deliveries on a clock: the first at once, each next so many seconds after it was due.

    A delivery that takes longer than that is followed by the next at once, and delays no later one.
    """
    due = time.monotonic()
    for number, delivery in enumerate(deliveries):
        if number:
            due += seconds
            if (left := due - time.monotonic()) > 0:
                wait(left)
        yield delivery

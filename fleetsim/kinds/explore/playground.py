"""Play with the truth behind the data, and watch which test notices; everything in memory.

An `Exploration` draws batches from one configuration, the *truth*, and holds them to another one,
the *law*. Where the two are equal and there is no fault, it shows what chance alone does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fleetsim.base.clock import DAY_US, format_time, parse_time
from fleetsim.base.errors import InputError, found, nearest
from fleetsim.base.project import find_project
from fleetsim.base.tables import Note, Stack, Table, counted, number
from fleetsim.base.verdict import Verdict
from fleetsim.experiment.figures import (
    DARK,
    LIGHT,
    MIDDLE,
    SIGNAL,
    ShownFigure,
    draw_counts,
    draw_over_interval,
    draw_types,
    printable,
    render_png,
    tick_label,
    titled_figure,
)
from fleetsim.experiment.kind import EXPLORE
from fleetsim.experiment.notebook import parameters_of
from fleetsim.experiment.parameters import check_parameters
from fleetsim.experiment.record import Record, read_run
from fleetsim.experiment.spec import load_experiment
from fleetsim.generate.config import Config, make_config
from fleetsim.generate.events import draw_events
from fleetsim.generate.model import type_law
from fleetsim.stats.answers import answer, answers_line
from fleetsim.stats.battery import BATTERY, EntryKind
from fleetsim.stats.controls import CONTROLS, Control
from fleetsim.stats.draws import draw_columns, sample_of
from fleetsim.stats.effects import law_of
from fleetsim.stats.judged import Test, record_test, run_battery
from fleetsim.stats.sample import Sample

#: What can be drawn in a moment; beyond it, `fleetsim events` and `fleetsim audit` are the tools.
EVENTS_MAX = 2_000_000
#: How a p-value looks: of a test that rejects, of one that shows equivalence, of any other one.
_REJECTS: dict[str, Any] = {"marker": "s", "ls": "", "mfc": SIGNAL, "mec": SIGNAL, "ms": 5.5}
_CLOSE: dict[str, Any] = {"marker": "^", "ls": "", "mfc": "none", "mec": DARK, "ms": 5.5}
_SILENT: dict[str, Any] = {"marker": "o", "ls": "", "mfc": MIDDLE, "mec": DARK, "ms": 5.5}
_LEAST_P = 1e-8  # smaller ones stand at the edge of the plot


def explored_config(experiment: str = "001-baseline", **configuration: Any) -> Config:
    """Return the configuration of an experiment, to play with.

    Parameters
    ----------
    experiment : str
        Id of the experiment, or a path.
    **configuration
        Scalar keys of the configuration. None means "as the YAML says".

    Raises
    ------
    InputError
        Where the experiment or a value is wrong.
    """
    known = parameters_of(EXPLORE)
    values, faults = check_parameters({"experiment": experiment, **configuration}, known)
    if faults:
        raise InputError("parameters", *faults)
    config = load_experiment(find_project(), values.pop("experiment")).config
    return make_config(config.as_dict(), values, source="parameters")


@dataclass(frozen=True)
class Exploration:
    """Batches that were drawn from a truth and held to a law.

    Attributes
    ----------
    truth, law : Config
    fault : str
        Name of the control that the data have, or "".
    batches : int
    sample : Sample
        The sufficient statistics of the events.
    tests : tuple of Test
        The whole battery, adjusted together.
    alpha : float
    """

    truth: Config
    law: Config
    fault: str
    batches: int
    sample: Sample
    tests: tuple[Test, ...]
    alpha: float

    def __repr__(self) -> str:
        return f"{self._what()}. {answers_line(self.tests)}"

    def _repr_html_(self) -> str:
        return Stack((self._differences(), self.answers()))._repr_html_()

    def answers(self) -> Table:
        """Return each test's question, p-value and answer, those that noticed something first."""
        order = sorted(self.tests, key=lambda test: test.verdict != Verdict.FAIL)
        rows = tuple(
            (
                test.question,
                number(test.p_value, 3),
                number(test.p_holm, 3),
                answer(test),
                "yes" if test.name in self.expected else "",
            )
            for test in order
        )
        header = ("question", "p", "p (Holm)", "answer", "made for this fault")
        return Table(header, rows, answers_line(self.tests))

    @property
    def noticed(self) -> tuple[str, ...]:
        """Names of the tests that speak against the law."""
        return tuple(test.name for test in self.tests if test.verdict == Verdict.FAIL)

    @property
    def expected(self) -> tuple[str, ...]:
        """Names of the tests that are there for this fault."""
        return _control(self.fault).caught_by if self.fault else ()

    def plot(self, size: tuple[float, float] = (9.5, 6.4)) -> ShownFigure:
        """Draw counts, types and times against the law, and every p-value."""

        def fill(figure: Figure) -> str:
            axes = figure.subplot_mosaic(
                [["counts", "p"], ["types", "p"], ["times", "p"]], width_ratios=[1.25, 1]
            )
            told = (
                draw_counts(axes["counts"], self.sample, self.law),
                draw_types(axes["types"], self.sample, self.law),
                draw_over_interval(axes["times"], self.sample),
                self._draw_p(axes["p"]),
            )
            return " ".join(told)

        figure, alt = titled_figure(self._what(), size, fill)
        return ShownFigure(render_png(figure), alt)

    def _draw_p(self, ax: Axes) -> str:
        shown = [test for test in self.tests if test.p_value is not None]
        at = np.arange(len(shown))[::-1]
        for place, test in zip(at.tolist(), shown, strict=True):
            equivalence = test.kind == EntryKind.EQUIVALENCE.value
            look = _REJECTS if test.verdict == Verdict.FAIL else _CLOSE if equivalence else _SILENT
            ax.plot(max(test.p_value or 0.0, _LEAST_P), place, **look, zorder=3)
        family = sum(test.p_holm is not None for test in self.tests)
        first = self.alpha / max(family, 1)
        ax.axvspan(_LEAST_P / 2, first, color=SIGNAL, alpha=0.12, lw=0)
        ax.set(xscale="log", xlim=(_LEAST_P / 2, 1.6), xlabel="p-value")
        ax.set_yticks(at, [spoken(test.name) for test in shown], fontsize=7.5)
        ax.grid(axis="y", color=LIGHT, lw=0.6)
        ax.set_axisbelow(True)
        for look, label in (
            (_SILENT, "does not reject"),
            (_REJECTS, "rejects"),
            (_CLOSE, "small: equivalence is shown"),
        ):
            ax.plot([], [], **look, label=label)
        ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), fontsize=8)
        named = spoken(*self.noticed) or "none"
        return f"Right: p-values of {len(shown)} tests; those that reject: {named}."

    def _what(self) -> str:
        fault = f", {_control(self.fault).fault}" if self.fault else ""
        events, batches = self.sample.n_events, counted(self.batches)
        return f"{events} events in {batches}, seed {self.truth.seed}{fault}"

    def _differences(self) -> Table:
        """Return in what the truth is not the law."""
        truth, law = self.truth.as_dict(), self.law.as_dict()
        rows = [
            (key, _value(law[key]), _value(truth[key])) for key in law if truth[key] != law[key]
        ]
        if self.fault:
            rows.append(("fault", "none", _control(self.fault).fault))
        caption = self._what() + ("" if rows else "; the truth is the law")
        return Table(("key", "the law says", "the truth"), tuple(rows), caption)


def explore(
    truth: Config,
    *,
    law: Config | None = None,
    fault: str = "",
    batches: int = 1,
    alpha: float = 0.05,
) -> Exploration:
    """Draw batches and make every test on them.

    Parameters
    ----------
    truth : Config
        What the events are drawn from; all companies take part.
    law : Config, optional
        What the tests hold them to; the truth itself by default. Fleet, event types and interval
        have to be the truth's.
    fault : str, optional
        A name of `fleetsim.stats.controls.CONTROLS`: the data get this fault. Some need two
        batches or more, which are then drawn.
    batches : int, optional
    alpha : float, optional
        Level of the whole family of tests.

    Raises
    ------
    InputError
        Where the two do not fit, the fault is not known, or the events are too many.
    """
    law = truth if law is None else law
    if not isinstance(batches, int) or batches < 1:
        raise InputError("batches", f"found {found(batches)}; allowed: a whole number from 1")
    for key in ("number_of_companies", "drivers_per_company", "batch_interval"):
        ours, theirs = getattr(truth, key), getattr(law, key)
        if ours != theirs:
            fault_ = f"the truth has {ours}, the law {theirs}; allowed: the same"
            raise InputError(key, fault_)
    if list(truth.event_types) != list(law.event_types):
        raise InputError("event_types", "truth and law name other types; allowed: the same")
    control = _control(fault) if fault else None
    batches = max(batches, control.batches) if control else batches
    drivers = truth.number_of_companies * truth.drivers_per_company
    expected = drivers * batches * truth.event_rate_per_driver
    if max(expected, drivers * batches) > EVENTS_MAX:
        raise InputError(
            "configuration",
            f"about {expected:.3g} events of {drivers} drivers; allowed: up to {EVENTS_MAX}",
            next_step="fewer companies, or write them with fleetsim events and use fleetsim audit",
        )
    columns = control.draw(truth, batches) if control else draw_columns(truth, batches)
    sample = sample_of(columns, truth, batches)
    rows = run_battery(sample, law_of(law), alpha=alpha)
    tests = tuple(record_test(row) for row in rows)
    return Exploration(truth, law, fault, batches, sample, tests, alpha)


def spoken(*tests: str) -> str:
    """Return the names of tests as words."""
    return ", ".join(test.replace("_", " ") for test in tests)


def kept_run(name: str) -> Record | Note:
    """Return the record of a run, or how to make it where there is none yet.

    Parameters
    ----------
    name : str
        As `read_run` takes it. The latest run of the same experiment stands in for it.

    Raises
    ------
    InputError
        Where the record is damaged or of another version.
    """
    experiment = name.partition("/")[0]
    for place in dict.fromkeys((name, experiment)):
        try:
            return read_run(place)
        except InputError as error:
            if error.where != "RUN":  # it is there, and cannot be read
                raise
    return Note(
        f"There is no run {name} in the results here yet, and none of {experiment}. To make one: "
        f"fleetsim run {experiment} (half a minute), then run this cell again."
    )


def faults_table() -> Table:
    """Return the faults that data can be given, and the tests that are there for each."""
    questions = {entry.name: entry.question for entry in BATTERY}
    rows = tuple((c.name, c.fault, questions[c.caught_by[0]]) for c in CONTROLS)
    return Table(("fault", "what is wrong", "the question that should get a no"), rows)


def _control(name: str) -> Control:
    for control in CONTROLS:
        if control.name == name:
            return control
    names = [control.name for control in CONTROLS]
    raise InputError(
        "fault", f"found {found(name)}{nearest(str(name), names)}; allowed: {', '.join(names)}"
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {weight:.4g}" for name, weight in value.items())
    return number(value, 6) if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class DriverDay:
    """The events of one driver over the batches of a day.

    Attributes
    ----------
    config : Config
    driver : int
        Position in the fleet, from 0.
    start_us : int
        Midnight [microseconds since 1970 UTC].
    at_us : int64 array (n,)
        Time of each event since midnight, in order [microseconds].
    kind : int64 array (n,)
        Position of each event's type in the law's order.
    batches : int
        How many begin on that day.
    """

    config: Config
    driver: int
    start_us: int
    at_us: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    batches: int

    def __len__(self) -> int:
        return len(self.at_us)

    def __repr__(self) -> str:
        return f"<DriverDay of driver {self.driver}: {len(self)} events in {self.batches} batches>"

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def table(self, rows: int = 8) -> Table:
        """Return the first events, with the batch that each came with."""
        names = type_law(self.config).names
        shown = tuple(
            (
                format_time(self.start_us + at)[11:-1],
                str(at // self.config.interval_us),
                printable(names[kind]),
            )
            for at, kind in zip(self.at_us[:rows].tolist(), self.kind[:rows].tolist(), strict=True)
        )
        day = format_time(self.start_us)[:10]
        expected = self.batches * self.config.event_rate_per_driver
        caption = (
            f"Driver {self.driver} on {day}: {len(self)} events in {self.batches} batches, "
            f"{number(expected)} expected; the first {len(shown)} of them"
        )
        return Table(("time (UTC)", "batch", "type"), shown, caption)

    def plot(self, size: tuple[float, float] = (9.0, 3.6)) -> ShownFigure:
        """Draw every event at its hour, and how many came with each batch."""

        def fill(figure: Figure) -> str:
            events, counts = figure.subplots(2, 1, sharex=True, height_ratios=[1.1, 1])
            names = type_law(self.config).names
            hours = self.at_us / 3.6e9
            for kind in range(len(names)):
                own = hours[self.kind == kind]
                events.plot(own, np.full(len(own), kind), "|", ms=13, color=DARK, mew=0.9)
            events.set_yticks(range(len(names)), [tick_label(name, 24) for name in names])
            events.set(ylim=(len(names) - 0.4, -0.6))
            batch = np.bincount(self.at_us // self.config.interval_us, minlength=self.batches)
            edges = np.arange(self.batches + 1) * self.config.interval_us / 3.6e9
            counts.stairs(batch, edges, fill=True, color=LIGHT)
            counts.stairs(batch, edges, color=DARK, lw=0.8)
            rate = self.config.event_rate_per_driver
            counts.axhline(rate, color=SIGNAL, lw=1.3, label=f"rate {rate:g} a batch")
            counts.set(xlabel="hour of the day (UTC)", ylabel="events of a batch")
            counts.set(xlim=(0, max(24.0, float(edges[-1]))), ylim=(0, 1.5 * max(*batch, rate, 1)))
            counts.legend(loc="upper right")
            return (
                f"Top: the {len(self)} events of one driver over a day, a line of ticks for each "
                f"type. Bottom: events of each of {self.batches} batches, from {batch.min()} to "
                f"{batch.max()}, around the rate of {rate:g}. There is no night and no shift."
            )

        figure, alt = titled_figure(f"A day of driver {self.driver}", size, fill)
        return ShownFigure(render_png(figure), alt)


def driver_day(config: Config, driver: int = 0, *, day: str = "2025-11-08") -> DriverDay:
    """Return the events of one driver over all batches that begin on a day.

    Batches are numbered from midnight on; each has the events that ``fleetsim events --ordinal``
    writes for that number.

    Parameters
    ----------
    config : Config
    driver : int
        Position in the fleet of the first cohort, from 0.
    day : str
        ISO 8601 date.

    Raises
    ------
    InputError
        Where there is no such driver or day, or a day has too many batches.
    """
    drivers = config.number_of_companies * config.drivers_per_company
    if not isinstance(driver, int) or not 0 <= driver < drivers:
        fault = f"found {found(driver)}; allowed: a whole number from 0 to {drivers - 1}"
        raise InputError("driver", fault)
    try:
        start_us = parse_time(f"{day}T00:00:00Z")
    except ValueError:
        raise InputError("day", f"found {found(day)}; allowed: a date, as 2025-11-08") from None
    batches = -(-DAY_US // config.interval_us)
    if batches > 1440:
        fault = f"found {config.batch_interval}; allowed here: PT1M or longer"
        raise InputError("batch_interval", fault)
    eligible = np.zeros(config.number_of_companies, np.bool_)
    eligible[driver // config.drivers_per_company] = True
    at: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    kind: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for ordinal in range(batches):
        for events in draw_events(config, eligible, ordinal):
            own = events.driver == driver
            offset = events.drawn["timestamp"][own].astype(np.int64)
            at.append(offset + ordinal * config.interval_us)
            kind.append(events.drawn["event_type"][own].astype(np.int64))
    return DriverDay(config, driver, start_us, np.concatenate(at), np.concatenate(kind), batches)

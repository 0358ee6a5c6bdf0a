"""Sliders in a notebook that move the truth behind the data, while the tests hold to the law.

The widgets are those of ipywidgets (extra `lab`). Without it, and in an HTML page made of the
notebook, a panel shows its picture as it stood.
"""

from __future__ import annotations

from typing import Any

from fleetsim.base.errors import InputError
from fleetsim.generate.config import Config, make_config
from fleetsim.kinds.explore.playground import Exploration, explore, spoken
from fleetsim.stats.controls import CONTROLS

_TYPES = 6  # event types that get a slider each
_COMPANIES, _RATE, _BATCHES, _SEED = 300, 10.0, 8, 999  # where sliders end, at least
_NONE = "none: fault-free data"
_NO_SLIDERS = "No sliders: ipywidgets is not installed (make setup EXTRAS=lab)"
_VIEW = "application/vnd.jupyter.widget-view+json"


class Panel:
    """A picture of counts, types, times and p-values, with controls that change the truth.

    Rate and weights change what the data are drawn from, and the law stays as it was; the fleet,
    the number of batches and the seed change for both.

    Parameters
    ----------
    law : Config
        What the tests hold the data to; where every control stands at first.

    Attributes
    ----------
    exploration : Exploration
        What is shown now.
    controls : dict
        The widgets by name; empty without ipywidgets.
    """

    def __init__(self, law: Config) -> None:
        self.law = law
        self.exploration = explore(law)
        self.controls: dict[str, Any] = {}
        self._shown = self.exploration.plot()
        try:
            import ipywidgets
        except ImportError:
            self._box: Any = None
        else:
            self._build(ipywidgets)

    def __repr__(self) -> str:
        return f"<Panel: {self.exploration!r}>"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data, metadata = self._shown._repr_mimebundle_()
        if self._box is not None:
            # JupyterLab shows the widgets; a page without scripts shows the picture.
            data[_VIEW] = self._box._repr_mimebundle_()[_VIEW]
        else:
            data["text/plain"] += f"\n{_NO_SLIDERS}"
        return data, metadata

    def _build(self, widgets: Any) -> None:
        """Make the widgets, and lay them out."""
        self.controls = _controls(widgets, self.law)
        self._picture = widgets.Image(value=self._shown.png, format="png")
        self._picture.layout.max_width = "100%"
        self._words = widgets.HTML(self._say())
        reset = widgets.Button(description="back to the law", icon="undo")
        reset.on_click(self._reset)
        fault = self.controls["fault"]
        moving = [control for control in self.controls.values() if control is not fault]
        sliders = widgets.Box(moving, layout=widgets.Layout(flex_flow="row wrap"))
        line = widgets.HBox([fault, reset])
        self._box = widgets.VBox([sliders, line, self._words, self._picture])
        self._start = {name: control.value for name, control in self.controls.items()}
        for control in self.controls.values():
            control.observe(self._changed, names="value")

    def _reset(self, _: Any) -> None:
        self._quiet = True
        for name, control in self.controls.items():
            control.value = self._start[name]
        self._quiet = False
        self._changed(None)

    _quiet = False

    def _changed(self, _: Any) -> None:
        if self._quiet:
            return
        try:
            self.exploration = self._explore()
        except InputError as error:
            self._words.value = _paragraph(f"Not drawn: {error}")
            return
        self._shown = self.exploration.plot()
        self._picture.value = self._shown.png
        self._words.value = self._say()

    def _explore(self) -> Exploration:
        values = {name: control.value for name, control in self.controls.items()}
        both = {"number_of_companies": values["companies"], "seed": values["seed"]}
        weights = {
            name: values.get(f"weight {name}", weight)
            for name, weight in self.law.event_types.items()
        }
        total = sum(weights.values())
        if total <= 0:
            raise InputError("event_types", "all weights are 0; allowed: one above 0")
        if weights != dict(self.law.event_types):
            weights = {name: weight / total for name, weight in weights.items()}
        law = make_config(self.law.as_dict(), both)
        truth = make_config(
            law.as_dict(), {"event_rate_per_driver": values["rate"], "event_types": weights}
        )
        return explore(truth, law=law, fault=values["fault"], batches=values["batches"])

    def _say(self) -> str:
        noticed, expected = self.exploration.noticed, self.exploration.expected
        names = spoken(*noticed)
        words = f"Against the law: <b>{names}</b>." if noticed else "No test rejects."
        if expected:
            words += f" Made for this fault: {spoken(*expected)}."
        return f"<p>{words}</p>"


def _controls(widgets: Any, law: Config) -> dict[str, Any]:
    """Return the sliders and the list of faults, by the names that `Panel._explore` reads."""
    wide = {"description_width": "13em"}

    def slider(kind: Any, text: str, **limits: Any) -> Any:
        layout = widgets.Layout(width="29em")
        return kind(description=text, style=wide, layout=layout, continuous_update=False, **limits)

    rate = law.event_rate_per_driver
    return {
        "rate": slider(
            widgets.FloatSlider,
            "rate (truth)",
            value=rate,
            min=0.0,
            max=max(_RATE, 2 * rate),
            step=0.01,
        ),
        **{
            f"weight {name}": slider(
                widgets.FloatSlider,
                f"{name} (truth)",
                value=w,
                min=0.0,
                max=1.0,
                step=0.01,
            )
            for name, w in list(law.event_types.items())[:_TYPES]
        },
        "companies": slider(
            widgets.IntSlider,
            "companies",
            value=law.number_of_companies,
            min=1,
            max=max(_COMPANIES, 2 * law.number_of_companies),
        ),
        "batches": slider(widgets.IntSlider, "batches", value=1, min=1, max=_BATCHES),
        "seed": slider(
            widgets.IntSlider,
            "seed",
            value=min(law.seed, 2**53),
            min=0,
            max=max(_SEED, min(law.seed, 2**53)),
        ),
        "fault": widgets.Dropdown(
            value="",
            description="fault",
            options=[(_NONE, ""), *((control.fault, control.name) for control in CONTROLS)],
            style=wide,
            layout=widgets.Layout(width="53em"),
        ),
    }


def _paragraph(text: str) -> str:
    from html import escape

    return f"<p>{escape(text)}</p>"


def open_panel(law: Config) -> Panel:
    """Return a panel that a notebook shows: sliders for the truth, and the tests' answers.

    Parameters
    ----------
    law : Config
        What the tests hold the data to; where every slider stands at first.
    """
    return Panel(law)

"""The reference pages of the documentation, and JSON Schemas, from what the code declares.

Nothing here is written twice: keys come from the structs that read them, commands from the command
line, fields from the data model, tests and faults from their tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from fleetsim.base.files import write_file
from fleetsim.base.project import Project
from fleetsim.base.strict import allowed, meta_of
from fleetsim.batch.formats import FORMATS, TEXT_TYPES, TIME_TYPES
from fleetsim.batch.meta import BatchMeta
from fleetsim.cli.notebooks import markdown_table
from fleetsim.experiment.criterion import Criterion, CriterionKind
from fleetsim.experiment.kind import DEFAULT_KIND, Kind, kinds
from fleetsim.experiment.spec import Spec
from fleetsim.generate.config import Config
from fleetsim.generate.defects import DEFECT_KINDS, EXPECTATIONS, MOST_LATE, DefectKind
from fleetsim.generate.model import COMPANY_FIELDS, EVENT_FIELDS, Field, FieldKind
from fleetsim.report import glossary_text
from fleetsim.stats.battery import BATTERY, EntryKind
from fleetsim.stats.controls import CONTROLS
from fleetsim.stats.defects import defect_entry

FOLDER = Path("docs", "reference")
_NOTE = "<!-- Written by fleetsim document --all from the code; changes belong there. -->\n"


def write_reference(project: Project, commands: click.Group) -> list[Path]:
    """Write the pages and the schemas into a project that has a place for them; return the files.

    Parameters
    ----------
    project : Project
    commands : click.Group
        The command line.
    """
    folder = project.resolve(FOLDER)
    if not folder.is_dir():
        return []
    texts = {folder / name: text for name, text in {**pages(commands), **schemas()}.items()}
    texts[folder.parent / "glossary.md"] = _NOTE + glossary_text()
    for path, text in texts.items():
        write_file(path, text.encode())
    return list(texts)


def pages(commands: click.Group) -> dict[str, str]:
    """Return each page by its file name, in Markdown."""
    texts = {
        "configuration.md": _configuration(),
        "experiment.md": _experiment(),
        "commands.md": _commands(commands),
        "data.md": _data(),
        "tests.md": _tests(),
    }
    return {name: _NOTE + text for name, text in texts.items()}


def schemas() -> dict[str, str]:
    """Return the JSON Schemas of config.yaml and experiment.yaml by file name, for editors."""
    config = _schema(Config, "A fleetsim configuration")
    del config["$defs"]  # the only one is a defect's, which each kind has in a form of its own
    config["properties"]["defects"] |= {
        "properties": {name: _defect_schema(kind) for name, kind in DEFECT_KINDS.items()},
        "additionalProperties": False,
    }
    experiment = _schema(Spec, "A fleetsim experiment")
    own = {kind.name: _schema(kind.Keys, kind.name) for kind in kinds().values()}
    every = _shared([schema["properties"] for schema in own.values()])
    experiment["properties"] |= every
    experiment["$defs"] = {
        name: form for schema in own.values() for name, form in schema.get("$defs", {}).items()
    }
    experiment["allOf"] = [
        {
            "if": _of_kind(name),
            "then": {
                "required": schema["required"],
                "properties": {
                    key: schema["properties"].get(key, False)
                    for key, entry in every.items()
                    if schema["properties"].get(key) != entry
                },
            },
        }
        for name, schema in own.items()
    ]
    criterion = _schema(Criterion, "A criterion")
    criterion["properties"]["kind"]["enum"] = list(_criteria())
    criterion["allOf"] = [
        {
            "if": {"properties": {"kind": {"const": name}}},
            "then": {"required": list(kind.limits)},
        }
        for name, kind in _criteria().items()
        if kind.limits
    ]
    experiment["properties"]["criteria"]["items"] = criterion
    experiment["properties"]["kind"]["enum"] = list(kinds())
    return {
        "config.schema.json": _json(config),
        "experiment.schema.json": _json(experiment),
    }


def _shared(kinds_: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys of all kinds; of one that kinds take otherwise what they have in common."""
    every: dict[str, Any] = {}
    for name, entry in ((name, entry) for own in kinds_ for name, entry in own.items()):
        known = every.setdefault(name, entry)
        if known != entry:
            every[name] = {key: known[key] for key in known if known[key] == entry.get(key)}
    return every


def _defect_schema(kind: DefectKind) -> dict[str, Any]:
    """Return the JSON Schema of one kind of defect: a rate, or a mapping."""
    rate = {"type": "number", "minimum": 0, "maximum": 1}
    own: dict[str, Any] = {
        "rate": rate | {"description": "probability that a record has this defect"},
        "fields": {
            "description": "the keys that it may strike; by default all of them",
            "type": "array",
            "items": {"enum": list(kind.fields)},
            "minItems": 1,
            "uniqueItems": True,
            "default": list(kind.fields),
        },
        "expect": {
            "description": "what a right ingestion does with the line",
            "enum": list(EXPECTATIONS),
            "default": kind.expect,
        },
    }
    if not kind.fields:
        own["fields"] = {"description": "none: it strikes the record", "type": "array"}
        own["fields"]["maxItems"] = 0
    if kind.name == "late":
        own["batches"] = {
            "description": "how many batches later the record comes",
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_LATE,
            "default": 1,
        }
    whole = {
        "type": "object",
        "properties": own,
        "required": ["rate"],
        "additionalProperties": False,
    }
    return {"description": f"{kind.description}.", "oneOf": [rate, whole]}


def _defects() -> str:
    rows = [("kind", "what is written", "fields", "expect", "Parquet and frames")]
    for kind in DEFECT_KINDS.values():
        fields = ", ".join(f"`{name}`" for name in kind.fields) or "–"
        rows.append(
            (
                f"`{kind.name}`",
                kind.description,
                "all" if len(kind.fields) == len(EVENT_FIELDS) else fields,
                kind.expect,
                "yes" if kind.columns else "no",
            )
        )
    return markdown_table(rows)


def _schema(kind: type[msgspec.Struct], title: str) -> dict[str, Any]:
    """Return the JSON Schema of a struct, with its limits in words where JSON has none."""
    (parts,), definitions = msgspec.json.schema_components([kind])
    schema: dict[str, Any] = definitions.pop(parts["$ref"].rpartition("/")[2])
    if definitions:
        schema["$defs"] = definitions
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, entry in schema["properties"].items():
        meta = meta_of(fields[name].type)
        entry["description"] = f"{meta.description}. Allowed: {allowed(fields[name].type)}."
        limits = meta.extra or {}
        if "le" in limits:  # msgspec has no limits beyond 63 bits
            entry["maximum"] = limits["le"]
    schema.pop("description", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _criteria() -> dict[str, CriterionKind]:
    """Return the kinds of criteria of all kinds of experiments."""
    return {name: of for kind in kinds().values() for name, of in kind.criteria().items()}


def _of_kind(name: str) -> dict[str, Any]:
    """Return the schema of an experiment of a kind; the default one need not be named."""
    schema: dict[str, Any] = {"properties": {"kind": {"const": name}}}
    return schema if name == DEFAULT_KIND else schema | {"required": ["kind"]}


def _title(kind: Kind) -> str:
    return (type(kind).__doc__ or "").partition("\n")[0]


def _json(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _keys(kind: type[msgspec.Struct]) -> str:
    rows = [("key", "what it is", "allowed", "default")]
    for field in msgspec.structs.fields(kind):
        about = str(meta_of(field.type).description)
        rows.append((f"`{field.name}`", about, allowed(field.type), _default(field)))
    return markdown_table(rows)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "– (needed)"
    value = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory()
    if value in ("", 0, [], {}, None):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {weight:g}" for name, weight in value.items())
    return f"`{value}`"


def _configuration() -> str:
    return f"""# Configuration

A YAML file (JSON where its name ends in `.json`). Unknown keys, wrong types and values out of range
are refused, all in one message. An editor that knows JSON Schema completes and checks it with
[config.schema.json](config.schema.json): put
`# yaml-language-server: $schema=PATH/config.schema.json` into the first line.

{_keys(Config)}

## defects

Each kind has a `rate`, the probability that a record has this defect; a bare number is short for
`{{rate: NUMBER}}`. A record has one defect at most, so the rates sum to at most 1. `fields` are the
keys that the kind may strike, all that it fits by default; `expect` is what a right ingestion does
with the line: {", ".join(f"`{name}`" for name in EXPECTATIONS)}. `late` has `batches` too, how many
batches later the record comes, 1 by default.

```yaml
defects:
  missing_field: {{rate: 0.004, fields: [truck_id, event_type]}}
  corrupt_record: 0.003
  extra_field: {{rate: 0.003, expect: accept}}
  late: {{rate: 0.003, batches: 1}}
```

{_defects()}

Each touched line stands in `ledger/<batch_id>.jsonl` beside the folder of the batches, or in
`ledger/<batch_id>/` with a file for each part. JSON Lines hold every kind, Parquet and data frames
those that their columns can.
"""


def _experiment() -> str:
    criteria = [("kind", "it claims that", "limits", "kind of experiment")]
    for kind in kinds().values():
        for name, of in kind.criteria().items():
            limits = ", ".join(f"`{limit}`" for limit in of.limits) or "–"
            criteria.append((f"`{name}`", of.claim, limits, f"`{kind.name}`"))
    keys = "\n".join(
        f"## {kind.name}\n\n{_title(kind)} Its notebook is `{kind.notebook}`.\n\n"
        + _keys(kind.Keys)
        for kind in kinds().values()
    )
    return f"""# experiment.yaml

What is claimed, fixed before anything runs. Schema 1; as JSON Schema for editors:
[experiment.schema.json](experiment.schema.json).

{_keys(Spec)}

Each kind of experiment has more keys, which experiments of other kinds may not have. `notebook` may
name a copy of the kind's notebook, with other cells.

{keys}
## Criteria

Each criterion has these keys; limits are in `unit`, a tolerance is a fraction of what the model
expects.

{_keys(Criterion)}

The kinds, with the limits that each needs:

{markdown_table(criteria)}

## A grid

`grid` maps parameters to what a sweep gives them: a list of values, `{{from: A, to: B, step: S}}`,
`{{from: A, to: B, points: N}}`, or the same with `scale: log`; `zip` is a list of mappings whose
lists go together. `seeds: N` makes N runs of each point, with the seeds that follow the configured
one.
"""


def _commands(commands: click.Group) -> str:
    context = click.Context(commands, info_name="fleetsim", **commands.context_settings)
    parts = [f"# Commands\n\n{_prose(commands.help)}\n\n{_options(commands, context)}"]
    for name in commands.list_commands(context):
        command = commands.get_command(context, name)
        if command is None or command.hidden:
            continue
        own = click.Context(command, info_name=name, parent=context)
        usage = " ".join(["fleetsim", name, *command.collect_usage_pieces(own)])
        parts.append(
            f"## fleetsim {name}\n\n```text\n{usage}\n```\n\n{_prose(command.help)}\n\n"
            f"{_options(command, own)}"
        )
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _prose(text: str | None) -> str:
    """Return a help text as paragraphs, each a line."""
    return "\n\n".join(" ".join(part.split()) for part in (text or "").strip().split("\n\n"))


def _options(command: click.Command, context: click.Context) -> str:
    rows = [("option", "what it does")]
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            rows.append((f"`{record[0]}`", " ".join(record[1].split())))
    return markdown_table(rows)


#: What a batch's record holds; a key without words would be an error here.
_RECORDED = {
    "schema": "version of this form",
    "stream_version": "version of the rule that makes data of a seed",
    "batch_id": "name of the folder",
    "interval_start": "first moment of the interval",
    "interval_end": "first moment after it",
    "event_count": "events, a line each",
    "seed": "master seed",
    "ordinal": "number among the batches of its seed, from 0",
    "generation_started": "when the command began",
    "generation_time": "when the events were on the disk",
    "generation_seconds": "seconds between the two, by the monotonic clock",
    "bytes": "size of the events file, or of all parts",
    "sha256": "hash of the events file; null where there are parts",
    "content_sha256": "hash of the JSON Lines before compression; null for Parquet and parts",
    "format": "one of the formats below",
    "config": "the effective configuration, every key",
    "companies": "the companies file: its lines, those eligible, and its sha256",
    "versions": "of fleetsim, NumPy and Python",
    "part_events": "events that a part is expected to have; only where there are parts",
    "parts": "name, rows, bytes and hashes of each part, in order; only where there are parts",
    "defects": "rates of the injected kinds, and the hash of the ledger (null where there are "
    "parts, each of which has its own `ledger_sha256`); only where there are any",
}
_HOW = {
    "uuid": "two words of the stream",
    "choice": "one word, by the weights of",
    "flag": "one word, by the probability",
    "time": "one word, over the interval",
}


def _fields(fields: Iterable[Field]) -> str:
    rows = [("key", "what it is", "where it comes from")]
    for field in fields:
        if field.purpose is None:
            how = "its place in the fleet"
        else:
            how = _HOW[field.kind.value] + (f" `{field.key}`" if field.key else "")
            how += f"; stream {int(field.purpose)}"
        rows.append((f"`{field.name}`", field.description, how))
    return markdown_table(rows)


def _data() -> str:
    formats = [("format", "file", "share of the JSON Lines' size, about")]
    formats += [(f"`{n}`", f"`{f.events_name}`", f"{f.share:g}") for n, f in FORMATS.items()]
    meta = [("key", "what it is")]
    meta += [(f"`{f.name}`", _RECORDED[f.name]) for f in msgspec.structs.fields(BatchMeta)]
    weights = next(f for f in msgspec.structs.fields(Config) if f.name == "event_types")
    types = ", ".join(f"`{name}`" for name in weights.default_factory())
    columns = [("column", "types of Parquet that are read")]
    columns += [
        (f"`{f.name}`", TIME_TYPES if f.kind is FieldKind.TIME else TEXT_TYPES)
        for f in EVENT_FIELDS
    ]
    return f"""# Data dictionary

A data set is `companies.jsonl` and a folder `events/<batch_id>/` for each batch. Lines are compact
JSON in UTF-8, keys in this order, each line ended by a line feed.

## companies.jsonl

{_fields(COMPANY_FIELDS)}

## events.jsonl

Ordered by company, driver and time; by default the types are {types}.

{_fields(EVENT_FIELDS)}

A batch may stand in parts instead, `part-000000.jsonl` and so on: consecutive drivers each, and as
many digits as the batch needs, so that the parts in the order of their names are the one file.

## batch_meta.json

Times are UTC text, sizes bytes, hashes SHA-256.

{markdown_table(meta)}

## Formats

The same rows in the same order in each format.

{markdown_table(formats)}

Parquet of other writers is read by the columns' names, in any order, with or without nulls allowed,
and in row groups of any size. Other types would lose something and are refused, as are missing and
further columns; a null is a fault of its row, and so is a fraction of a microsecond.

{markdown_table(columns)}
"""


def _tests() -> str:
    words = {
        EntryKind.EVIDENCE: "against the generator",
        EntryKind.EQUIVALENCE: "equivalence",
        EntryKind.STRUCTURE: "against the generator, certainly",
    }
    tests = [("test", "question", "a small p speaks", "batches", "it does not see")]
    tests += [
        (f"`{e.name}`", e.question, words[e.kind], f"{e.batches} or more", e.misses)
        for e in (*BATTERY, defect_entry("KIND"))
    ]
    faults = [("fault", "what is wrong", "tests that are there for it")]
    faults += [
        (f"`{c.name}`", c.fault, ", ".join(f"`{name}`" for name in c.caught_by)) for c in CONTROLS
    ]
    return f"""# Tests and faults

## The battery

What every run and every audit asks of the data; a fault-free generator gives yes. The last one is
asked of each KIND of injected defects, where a ledger says which lines they are.

{markdown_table(tests)}

## Known faults

Data that must fail: the calibration draws each, and so does `fleetsim.explore(config, fault=NAME)`.

{markdown_table(faults)}
"""

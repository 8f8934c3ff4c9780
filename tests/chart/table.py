"""The table of values in the chart's README, from values.yaml: its comments and its defaults."""

import json
import pathlib
import re

import yaml

CHART = pathlib.Path(__file__).resolve().parents[2] / "helm/jaiminho"
README = CHART / "README.md"
BEGIN, END = "<!-- values: made by tests/chart/run -->", "<!-- end of values -->"


def rows():
    """Path, comment and default of each value that has a comment; what a group's comment says stands at its name."""
    text = (CHART / "values.yaml").read_text()
    values, path, comment = yaml.safe_load(text), [], []
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith("# "):
            comment.append(line.strip()[2:])
        elif key := re.match(r"\s*([\w.]+):", line):
            path = path[: indent // 2] + [key[1]]
            if comment:
                yield ".".join(path), " ".join(comment), of(values, path)
            comment = []


def of(values, path):
    for key in path:
        values = values[key]
    return values


def default(value):
    # The keys of a group have rows of their own.
    if value is None or value == "" or (isinstance(value, dict) and len(json.dumps(value)) > 200):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}`"


def table():
    lines = ["| value | what it says | default |", "|---|---|---|"]
    lines += [
        f"| `{path}` | {comment.replace('|', chr(92) + '|')} | {default(value)} |" for path, comment, value in rows()
    ]
    return "\n".join([BEGIN, *lines, END])


def written():
    before, rest = README.read_text().split(BEGIN)
    return before + table() + rest.split(END)[1]


def write():
    README.write_text(written())


def is_fresh():
    return README.read_text() == written()

"""Helm, and what it makes of the chart helm/jaiminho."""

import json
import os
import pathlib
import subprocess

import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CHART = ROOT / "helm/jaiminho"
EUGENIO = ROOT / "deploy/pipelines/eugenio"
NAMESPACE = "jaiminho-chart"
FLAGS = ["--namespace", NAMESPACE, "--kube-version", "1.31.0"]
# The values of `minimal` are for the pipeline file as it is.
GIVEN = {
    "minimal": [
        f"--set-file=pipeline={EUGENIO}/pipeline.yaml",
        f"--set-file=files.mappings/eugenio\\.vrl={EUGENIO}/mappings/eugenio.vrl",
        f"--set-file=files.example\\.json={EUGENIO}/example.json",
    ]
}
VALUES = sorted((HERE / "values").glob("*.yaml"))
WORKLOADS = ("Deployment", "StatefulSet")
failures = []


def fails(what):
    failures.append(what)
    print(f"FAILED  {what}")


def check(holds, what):
    if not holds:
        fails(what)


def helm(*arguments):
    return subprocess.run([os.environ["HELM"], *map(str, arguments)], capture_output=True, text=True)


def render(values, *more):
    return helm("template", "eugenio", CHART, *FLAGS, *of(values), *more)


# No `helm template` prints NOTES.txt; this has it in an object.
NOTES = 'text: {{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}'


def notes(values):
    """What `helm install` says once it is done."""
    done = render(values, "--set-json", f"extraObjects={json.dumps([NOTES])}", "--show-only", "templates/extra.yaml")
    return yaml.safe_load(done.stdout)["text"] if done.returncode == 0 else done.stderr


def of(values):
    """The options that give a file of values, and what it needs besides."""
    return "--values", values, *GIVEN.get(values.stem, [])


class Strict(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):
    """Refuses a key that stands twice, where YAML takes the last."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f"twice in one map: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


class Pod:
    """A pod, and whose it is."""

    def __init__(self, owner, metadata, spec):
        self.owner, self.labels, self.spec = owner, metadata["labels"], spec
        self.name = owner["metadata"]["name"]
        self.stage = self.labels.get("jaiminho/stage")
        self.container = next(one for one in spec["containers"] if one["name"] == "jaiminho")

    def is_selected(self, selector):
        return all(self.labels.get(key) == value for key, value in selector.get("matchLabels", selector).items())


class Render:
    """The objects of one values file."""

    def __init__(self, name, text):
        self.name = name
        self.objects = [document for document in yaml.load_all(text, Strict) if document]

    def of(self, *kinds):
        return [one for one in self.objects if one["kind"] in kinds]

    def config(self):
        return next(one["data"] for one in self.of("ConfigMap") if one["metadata"]["name"].endswith("-pipeline"))

    def pipeline(self):
        return yaml.load(self.config()["pipeline.yaml"], Strict)

    def pods(self):
        owned = [Pod(one, **one["spec"]["template"]) for one in self.of(*WORKLOADS)]
        return owned + [Pod(one, one["metadata"], one["spec"]) for one in self.of("Pod")]

    def stages(self):
        """The pods of stages, by stage."""
        return {pod.stage: pod for pod in self.pods() if pod.stage}

    def says(self, holds, what):
        check(holds, f"{self.name}: {what}")

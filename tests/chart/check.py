"""Checks of the chart helm/jaiminho; `run` starts it. HELM is the program; see `run` for UPDATE and JAIMINHO_BIN."""

import contextlib
import os
import pathlib
import re
import sys
import tempfile

import yaml

import table
from meaning import check_meaning, policies_are_the_edges
from render import CHART, FLAGS, HERE, NAMESPACE, ROOT, VALUES, Render, check, fails, failures, helm, notes, of, render

UPDATE = os.environ.get("UPDATE") == "1"
ANEW = "UPDATE=1 tests/chart/run writes it anew"


def lint(values):
    done = helm("lint", "--strict", CHART, *FLAGS, *of(values))
    check(done.returncode == 0, f"{values.stem}: helm lint --strict\n{done.stdout}{done.stderr}")


def brief(text):
    """A render in one order, without what stands elsewhere in the repository: files, dashboard, rules, and their checksum."""
    text = re.sub(r"(checksum/pipeline: )\w+", r"\1…", text)
    text = re.sub(r"^(  groups:)(\n +.*)+", r"\1 …", text, flags=re.MULTILINE)
    text = re.sub(r"^(  [\w.]+\.(?:vrl|json): )\|-?\n(?:(?: {4}.*)?\n)+", "\\1…\n", text, flags=re.MULTILINE)
    # Versions of Helm differ in the order of what is of one kind, and in empty lines.
    objects = filter(None, map(str.strip, re.split(r"^---$", text, flags=re.MULTILINE)))
    return "\n---\n".join(sorted(objects)) + "\n"


def golden(name, text):
    kept = HERE / "golden" / name
    if UPDATE:
        kept.write_text(text)
    same = kept.exists() and kept.read_text() == text
    check(same, f"the render is not golden/{name}. {ANEW}, and git diff shows what changed")


@contextlib.contextmanager
def values_of(given):
    """A file of these values."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(given, file)
        file.flush()
        yield file.name


def refused():
    """Each of wrong.yaml is refused, in words that say why; and whatever a template may say is said."""
    all_said = []
    for case in yaml.safe_load((HERE / "wrong.yaml").read_text()):
        release, right = case.get("release", "eugenio"), HERE / "values/keda.yaml"
        with values_of(case["values"]) as wrong:
            done = helm("template", release, CHART, *FLAGS, "--values", right, "--values", wrong)
        said = " ".join(done.stderr.split())
        all_said.append(said)
        check(done.returncode != 0, f"wrong: {case['says']}: not refused")
        check(case["says"] in said, f"wrong: it should say `{case['says']}`, and says: {said}")
    for words in [words for file in (CHART / "templates").rglob("*.*") for words in refusals(file.read_text())]:
        check(any(re.search(words, said) for said in all_said), f"wrong.yaml has nothing that is told: {words}")


def refusals(template):
    """What the `fail` of a template may say, as patterns."""
    for words in re.findall(r'\bfail \(?(?:printf )?"((?:[^"\\]|\\.)*)"', template):
        yield re.sub(r"%[svd]", ".*", re.escape(words))


def checksum_rolls():
    """A changed mapping or pipeline rolls pods; another number of them does not."""

    def sum_with(*more):
        made = Render("checksum", render(HERE / "values/keda.yaml", *more).stdout)
        return made.of("Deployment")[0]["spec"]["template"]["metadata"]["annotations"]["checksum/pipeline"]

    before = sum_with()
    check(sum_with("--set", "pipeline.stages.convert.replicas=7") == before, "another number of replicas rolls pods")
    check(sum_with("--set", "pipeline.stages.convert.concurrency=7") != before, "a changed pipeline does not roll pods")
    check(sum_with("--set", "files.a=b") != before, "a changed file does not roll pods")


def companions_are_plain():
    """Of `defaults` console, scaler and test take what pods need, and not what makes a stage of one."""
    files = {"ca": "ca.crt", "cert": "tls.crt", "key": "tls.key"}
    links = {key: f"/run/secrets/links/{file}" for key, file in files.items()}
    beside = [{"name": "beside", "image": "busybox"}]
    given = {
        "pipeline": {"stages": {name: {"tls": links} for name in ("ingest", "convert", "publish")}},
        "console": {"enabled": True, "pod": {"extraArgs": ["--mine"]}},
        "defaults": {
            "secrets": {"links": "/run/secrets/links", "kafka": "/run/secrets/kafka"},
            "initContainers": beside,
            "extraContainers": beside,
            "extraArgs": ["--theirs"],
            "tolerations": [{"operator": "Exists"}],
        },
    }
    with values_of(given) as values:
        made = Render("companions", render(HERE / "values/keda.yaml", "--values", values).stdout)
    plain = {pod.labels["app.kubernetes.io/component"]: pod for pod in made.pods() if not pod.stage}
    made.says(plain.keys() == {"console", "scaler", "test"}, f"companions are {plain.keys()}")
    for name, pod in plain.items():
        alone = len(pod.spec["containers"]) == 1 and "initContainers" not in pod.spec
        made.says(alone, f"{name} has containers of stages, and the test would never end")
        made.says("--theirs" not in pod.container["args"], f"{name} has arguments of stages: {pod.container['args']}")
        secrets = [volume["secret"]["secretName"] for volume in pod.spec["volumes"] if "secret" in volume]
        made.says(secrets == ["links"], f"{name} has the Secrets {secrets}")
        made.says(pod.spec["tolerations"], f"{name} is placed otherwise than stages")
        variables = {one["name"] for one in pod.container["env"]}
        made.says(("KAFKA" in variables) == (name != "test"), f"{name} has the variables {variables}")
    made.says("--mine" in plain["console"].container["args"], "what is said for the console is not done")
    for stage, pod in made.stages().items():
        all_of_it = len(pod.spec["containers"]) == 2 and "--theirs" in pod.container["args"]
        made.says(all_of_it, f"{stage} lacks something of `defaults`")


def elsewhere_is_reached():
    """Whatever form the `at` of a stage that runs elsewhere has, who consumes it and who looks may connect to it."""
    for at in ({"list": ["a.example:7402", "[::1]:7403"]}, {"srv": "_stage._tcp.feed.example"}):
        stages = {"feed": {"at": at, "source": {"generate": {}}}, "convert": {"subscribe_to": ["ingest", "feed"]}}
        with values_of({"pipeline": {"stages": stages}, "stages": {"feed": {"enabled": False}}}) as values:
            made = render(HERE / "values/keda.yaml", "--values", values).stdout
        policies_are_the_edges(Render(f"feed at {at}", made))


def images_are_whole():
    """A stage's own image has neither digest nor tag of the chart's, and another tag of that one not its digest."""

    def image(*own):
        made = Render("images", render(HERE / "values/production.yaml", "--set", ",".join(own)).stdout)
        return made.stages()["convert"].container["image"]

    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    for own, is_image in {
        ("stages.convert.image.repository=a",): f"a:{version}",
        ("stages.convert.image.repository=a", "stages.convert.image.tag=b"): "a:b",
        ("stages.convert.image.tag=b",): "registry.example/jaiminho:b",
    }.items():
        check(image(*own) == is_image, f"images: {own} is {image(*own)} instead of {is_image}")


def readme_works():
    """The values that the README shows are taken."""
    shown = re.search(r"```yaml\n(.*?)```", table.README.read_text(), flags=re.DOTALL)[1]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:
        values.write(shown)
        values.flush()
        done = render(pathlib.Path(values.name))
    check(done.returncode == 0, f"the example in helm/jaiminho/README.md: {done.stderr}")


def versions():
    """The image that is run by default is that of this program."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    program = re.search(r'\[workspace.package\]\nversion = "(.+)"', (ROOT / "Cargo.toml").read_text())[1]
    check(chart == program, f"appVersion is {chart}, and the program's version {program}")


def packaged():
    """What links lead to is in the package, and it renders what the folder does."""
    with tempfile.TemporaryDirectory() as folder:
        done = helm("package", CHART, "--destination", folder)
        check(done.returncode == 0, f"helm package: {done.stderr}")
        package = next(pathlib.Path(folder).glob("*.tgz"))
        values = HERE / "values/everything.yaml"
        made = helm("template", "eugenio", package, *FLAGS, "--values", values)
        check(made.stdout == render(values).stdout and made.stdout, "the package does not render what the folder does")


def write_renders(folder):
    for values in VALUES:
        pathlib.Path(folder, values.name).write_text(render(values).stdout)
    print(NAMESPACE)
    return 0


def main():
    for values in VALUES:
        lint(values)
        done = render(values)
        if done.returncode != 0:
            fails(f"{values.stem}: {done.stderr}")
            continue
        golden(f"{values.stem}.yaml", brief(done.stdout))
        golden(f"{values.stem}.txt", notes(values))
        try:
            check_meaning(Render(values.stem, done.stdout))
        except yaml.YAMLError as error:
            fails(f"{values.stem}: {error}")
    refused()
    checksum_rolls()
    companions_are_plain()
    elsewhere_is_reached()
    images_are_whole()
    readme_works()
    versions()
    packaged()
    if UPDATE:
        table.write()
    check(table.is_fresh(), f"the table of values in helm/jaiminho/README.md is stale. {ANEW}")
    print(f"{len(failures)} failed" if failures else "the chart is as it should be")
    return 1 if failures else 0


sys.exit(write_renders(sys.argv[2]) if sys.argv[1:2] == ["--renders"] else main())

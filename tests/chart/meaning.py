"""What a render means: a check each."""

import json
import os
import pathlib
import re
import subprocess
import tempfile

import yaml

from render import ROOT, WORKLOADS

# What a stage has to close its connections once it has drained, in seconds.
CLOSE = 10
MIB = 1024 * 1024
# What the program takes besides what `jaiminho validate` sums up.
PROGRAM = 64 * MIB


def check_meaning(made):
    """All of them."""
    workloads_are_safe(made)
    pods_drain(made)
    probes_ask(made)
    selectors_match(made)
    backends_exist(made)
    edges_speak(made)
    scalers_own_replicas(made)
    stages_are_found(made)
    certificates_are_mounted(made)
    policies_are_the_edges(made)
    rules_are_ours(made)
    if os.environ.get("JAIMINHO_BIN"):
        program_accepts(made)


def workloads_are_safe(made):
    for pod in made.pods():
        user, may = pod.spec["securityContext"], pod.container["securityContext"]
        made.says(pod.spec["automountServiceAccountToken"] is False, f"{pod.name} has a token")
        made.says(user["runAsNonRoot"] and user["seccompProfile"], f"{pod.name} may be root")
        made.says(may["readOnlyRootFilesystem"], f"{pod.name} may write to its root")
        made.says(not may["allowPrivilegeEscalation"], f"{pod.name} may become root")
        made.says(may["capabilities"] == {"drop": ["ALL"]}, f"{pod.name} has capabilities")
        made.says(pod.container["resources"]["limits"].keys() >= {"cpu", "memory"}, f"{pod.name} lacks a limit")
        mounts = {mount["name"] for mount in pod.container["volumeMounts"]}
        volumes = {volume["name"] for volume in pod.spec["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in pod.owner["spec"].get("volumeClaimTemplates", [])}
        made.says(mounts == volumes, f"{pod.name} mounts {mounts}, and has {volumes}")
        variables = [variable["name"] for variable in pod.container["env"]]
        made.says(len(variables) == len(set(variables)), f"{pod.name} has a variable twice")


def pods_drain(made):
    stages = made.pipeline()["stages"]
    for stage, pod in made.stages().items():
        sleep = pod.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needs, has = (
            seconds(stages[stage].get("drain", "25s")) + sleep + CLOSE,
            pod.spec["terminationGracePeriodSeconds"],
        )
        made.says(has > needs, f"{stage} is killed after {has} s, and needs {needs}")
        if pod.owner["kind"] == "Deployment":
            rolling = pod.owner["spec"]["strategy"]["rollingUpdate"]
            made.says(rolling["maxUnavailable"] == 0, f"an update of {stage} takes pods away first")


def probes_ask(made):
    """What serves is asked whether it does, at a port that it has."""
    for pod in [pod for pod in made.pods() if "ports" in pod.container]:
        ports = {port[key] for port in pod.container["ports"] for key in ("name", "containerPort")}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asks = pod.container.get(probe, {})
            asked = asks.get("httpGet", asks.get("grpc", {})).get("port")
            made.says(asked in ports, f"the {probe} of {pod.name} asks {asked}, and it has {ports}")


def certificates_are_mounted(made):
    """A certificate for each pod that links or looks, with the names that it is found by."""
    names = {one["spec"]["secretName"]: set(one["spec"]["dnsNames"]) for one in made.of("Certificate")}
    if not names:
        return
    stages = made.pipeline()["stages"]
    for pod in made.pods():
        mounted = {volume["secret"]["secretName"] for volume in pod.spec["volumes"] if "secret" in volume}
        own = mounted & names.keys()
        made.says(len(own) == 1, f"{pod.name} has the certificates {own}")
        if pod.stage:
            found = stages[pod.stage]["at"]["dns"].split(":")[0]
            made.says(found in names[own.pop()], f"the certificate of {pod.name} is not for {found}")


def seconds(duration):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([a-z]+)", duration))


def selectors_match(made):
    """Each means the pods of one workload; a Service has ports that they have; a PodMonitor means all stages."""
    pods = made.pods()
    for one in made.of("Service", "PodDisruptionBudget", "NetworkPolicy", *WORKLOADS):
        name, spec = f"{one['kind']} {one['metadata']['name']}", one["spec"]
        meant = [pod for pod in pods if pod.is_selected(spec.get("podSelector", spec.get("selector")))]
        made.says(len(meant) == 1, f"{name} selects {[pod.name for pod in meant]}")
        if meant and one["kind"] == "Service":
            lacks = {port["targetPort"] for port in spec["ports"]} - {
                port["name"] for port in meant[0].container["ports"]
            }
            made.says(not lacks, f"{name} leads to {lacks}, which its pods have not")
    for monitor in made.of("PodMonitor"):
        meant = {pod.stage for pod in pods if pod.is_selected(monitor["spec"]["selector"])} - {None}
        made.says(meant == made.stages().keys(), f"PodMonitor selects {meant}")


def backends_exist(made):
    ports = {(one["metadata"]["name"], port["port"]) for one in made.of("Service") for port in one["spec"]["ports"]}
    rules = [rule for one in made.of("Ingress") for rule in one["spec"]["rules"]]
    services = [path["backend"]["service"] for rule in rules for path in rule["http"]["paths"]]
    wanted = {(one["name"], one["port"]["number"]) for one in services}
    rules = [rule for one in made.of("HTTPRoute") for rule in one["spec"]["rules"]]
    wanted |= {(one["name"], one["port"]) for rule in rules for one in rule["backendRefs"]}
    made.says(wanted <= ports, f"no Service has {wanted - ports}")


def edges_speak(made):
    """The edges' Services say what their ports speak."""
    for name, stage in made.pipeline()["stages"].items():
        source = stage.get("source", {})
        for edge in [one for one in ("http", "websocket") if name in made.stages() and one in source]:
            tls = bool(source[edge].get("tls"))
            says = {"http": [None, "https"], "websocket": ["kubernetes.io/ws", "kubernetes.io/wss"]}[edge][tls]
            for one in made.of("Service"):
                ports = one["spec"]["ports"] if one["metadata"]["name"].endswith(f"{name}-edge") else []
                for port in ports:
                    if port["targetPort"] == edge:
                        made.says(port.get("appProtocol") == says, f"{edge} of {name} is {port}, and speaks {says}")


def scalers_own_replicas(made):
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in made.of("HorizontalPodAutoscaler", "ScaledObject")}
    owners = {one["metadata"]["name"]: one["spec"] for one in made.of(*WORKLOADS)}
    made.says(scaled <= owners.keys(), f"scalers of nothing among {scaled}")
    for name in scaled & owners.keys():
        made.says("replicas" not in owners[name], f"{name} has replicas, and a scaler")
    for one in made.of("ScaledObject"):
        made.says(one["spec"]["fallback"]["behavior"] == "currentReplicas", "without an answer of the scaler, pods go")
        trigger, least = one["spec"]["triggers"][0], one["spec"]["minReplicaCount"]
        made.says(trigger["metricType"] == "AverageValue", "a number of instances is no average")
        wanted = "external" if least else "external-push"
        made.says(trigger["type"] == wanted, f"from {least} pods by {trigger['type']}")


def stages_are_found(made):
    """`at` of each stage that runs here is its headless Service."""
    pipeline = made.pipeline()
    made.says("profiles" not in pipeline, "profiles are left in the pipeline")
    headless = [one for one in made.of("Service") if one["spec"].get("clusterIP") == "None"]
    services = {one["metadata"]["labels"]["jaiminho/stage"]: one for one in headless}
    made.says(services.keys() == made.stages().keys(), f"stages with a Service are {services.keys()}")
    for stage, service in services.items():
        at, here = pipeline["stages"][stage]["at"], service["spec"]["ports"][0]["port"]
        made.says(
            at == {"dns": f"{service['metadata']['name']}:{here}"}, f"{stage} is at {at}, and its Service at {here}"
        )


def policies_are_the_edges(made):
    """Those who subscribe to a stage may connect to it, and no other stage; console and scaler may to all."""
    stages, here = made.pipeline()["stages"], made.stages().keys()
    links = links_of(stages)
    for policy in made.of("NetworkPolicy"):
        name, stage = policy["metadata"]["name"], policy["metadata"]["labels"].get("jaiminho/stage")
        wanted = {producer for consumer, producer in links if consumer == stage} if stage else set(stages)
        if stage:
            lets_in = stages_among(policy["spec"]["ingress"][0]["from"])
            consumers = {consumer for consumer, producer in links if producer == stage}
            made.says(lets_in == consumers, f"{name} lets in {lets_in}, and is consumed by {consumers}")
        egress = policy["spec"]["egress"]
        if {} in egress:
            continue
        reaches = {other for rule in egress for other in stages_among(rule.get("to", []))}
        made.says(reaches == wanted & here, f"{name} may reach {reaches}, and wants {wanted & here}")
        anywhere = {port.get("port") for rule in egress if "to" not in rule for port in rule["ports"]}
        for other in wanted - here:
            at = stages[other]["at"]
            made.says(ports_of(at) <= anywhere, f"{name} may reach the ports {anywhere}, and {other} is at {at}")


def ports_of(at):
    """Of a stage that runs elsewhere; any, None, where a look-up tells it."""
    return {int(one.split(":")[-1]) for one in [*at.get("list", []), *filter(None, [at.get("dns")])]} or {None}


def links_of(stages):
    """(consumer, producer) of each, `before` carried out."""
    producers = {}
    for name, stage in stages.items():
        outputs = [wanted if isinstance(wanted, str) else wanted["stage"] for wanted in stage.get("subscribe_to", [])]
        producers[name] = {output.split(".")[0] for output in outputs}
    for name in sorted(stages):
        if before := stages[name].get("before"):
            producers[name], producers[before] = producers[before], {name}
    return {(consumer, producer) for consumer, those in producers.items() for producer in those}


def stages_among(peers):
    selectors = [peer.get("podSelector", {}) for peer in peers]
    wanted = [one for selector in selectors for one in selector.get("matchExpressions", [])]
    return {name for one in wanted if one["key"] == "jaiminho/stage" for name in one["values"]}


def rules_are_ours(made):
    """Alert rules and dashboard are those of deploy/."""
    ours = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    for one in made.of("PrometheusRule"):
        made.says(alerts_of(one["spec"]) == alerts_of(ours), "the alert rules are not those of deploy/prometheus")
    board = (ROOT / "deploy/grafana/jaiminho.json").read_text().strip()
    for one in made.of("ConfigMap"):
        text = one.get("data", {}).get("jaiminho.json", board)
        made.says(text.strip() == board, "the dashboard is not that of deploy/grafana")


def alerts_of(rules):
    return [(one["alert"], one["expr"]) for group in rules["groups"] for one in group["rules"]]


CONNECTION_STRING = "Endpoint=sb://a.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=a\n"


def program_accepts(made):
    """`jaiminho validate` of what each stage's pod mounts, with stand-ins for Secrets, and of its cores."""
    with tempfile.TemporaryDirectory() as folder:
        folder, config = pathlib.Path(folder), made.config()
        pods = made.stages().values()
        volume = next(one for one in next(iter(pods)).spec["volumes"] if one["name"] == "pipeline")
        for item in volume["configMap"]["items"]:
            put(folder / item["path"], config[item["key"]])
        text = config["pipeline.yaml"]
        stand_ins = certificate(folder)
        for secret in re.findall(r"(?<![\w:/])/run/secrets/[\w./-]+", text):
            ending = pathlib.Path(secret).suffix
            put(folder / secret[1:], stand_ins.get(ending, CONNECTION_STRING))
        put(folder / "pipeline.yaml", text.replace("/run/secrets/", f"{folder}/run/secrets/"))
        variables = {one["name"]: one.get("value", "kafka:9092") for pod in pods for one in pod.container["env"]}
        variables["JAIMINHO_FILE"] = str(folder / "pipeline.yaml")
        for cores in {cores_of(pod) for pod in pods}:
            command = [os.environ["JAIMINHO_BIN"], "validate", "--apart", "--json", "--cores", str(cores)]
            done = subprocess.run(command, env=variables, capture_output=True, text=True)
            made.says(done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}")
            if done.returncode == 0:
                memory_fits(made, cores, json.loads(done.stdout)["memory"])


def memory_fits(made, cores, memory):
    """What a stage may take with so many cores is within its pod's limit, and the program besides."""
    for stage, pod in made.stages().items():
        has, needs = quantity(pod.container["resources"]["limits"]["memory"]), memory[stage]["bytes_max"] + PROGRAM
        fits = has >= needs or cores_of(pod) != cores
        made.says(fits, f"{stage} has {has / MIB:.0f} MiB, and needs {needs / MIB:.1f} with {cores} cores")


def cores_of(pod):
    return max(1, int(quantity(pod.container["resources"]["limits"]["cpu"])))


def quantity(text):
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", str(text)).groups()
    return float(number) * {"": 1, "m": 0.001, "Mi": MIB, "Gi": 1024 * MIB}[unit]


def certificate(folder):
    """One that has signed itself, and its key, by the ending of their files."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=any"
    made = [*command.split(), "-keyout", folder / "any.key", "-out", folder / "any.crt"]
    subprocess.run(made, check=True, capture_output=True)
    return {ending: (folder / f"any{ending}").read_text() for ending in (".crt", ".key")}


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

"""A release of the chart in a cluster of helm/cluster.py, and what must hold of it."""

import contextlib
import json
import subprocess
import sys

import yaml
from check import CHART, LEAST, holds, merged, same
from cluster import PATIENCE, Node, secret, wait

RELEASE = "outreach"
NAME = "outreach-anklang"
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ["enforce", "warn", "audit"]}
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())

# What values name, and is not the chart's.
SECRETS = {
    "anklang-database": ["url", "direct", "replica"],
    "bucket": ["access_key_id", "secret_access_key"],
    "callers": ["ca.crt"],
    "corporate-ca": ["ca.crt"],
    "database-ca": ["ca.crt"],
    "database-client": ["tls.crt", "tls.key"],
    "keys": ["sealing"],
    "otlp": ["headers"],
    "owner": ["url"],
    "smtp": ["password"],
    "tls": ["tls.crt", "tls.key", "ca.crt"],
}


class Release:
    """A release in a namespace of its own, and what must hold of it after each step."""

    def __init__(self, cluster, helm, folder, namespace):
        self.cluster, self.helm, self.folder, self.namespace = cluster, helm, folder, namespace
        self.node = Node(cluster, namespace)

    def __enter__(self):
        self.elsewhere = self.cluster.everything("default")
        make_namespace(self.cluster, self.namespace)
        for name, keys in SECRETS.items():
            self.cluster.apply(secret(name, keys), self.namespace)
        self.make("ServiceAccount", "migrations")
        claim = {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "1Gi"}}}
        self.make("PersistentVolumeClaim", "plugins", {"spec": {**claim, "storageClassName": ""}})
        for name, mode in [("documents", "ReadWriteMany"), ("plugins", "ReadOnlyMany")]:
            spec = {"accessModes": [mode], "capacity": {"storage": "10Gi"}, "hostPath": {"path": "/nowhere"}}
            self.make("PersistentVolume", f"{self.namespace}-{name}", {"spec": spec})
        claim = self.cluster.path("v1", "PersistentVolumeClaim", self.namespace, "plugins")
        wait(lambda: self.cluster.call("GET", claim)["status"]["phase"] == "Bound", "the claim of plugins")
        self.node.__enter__()
        self.before = self.cluster.everything(self.namespace)
        return self

    def __exit__(self, kind, *_):
        self.node.__exit__()
        if kind:
            self.tell()
            return
        self.cluster.delete("Namespace", "", self.namespace)
        for name in ["documents", "plugins"]:
            self.cluster.delete("PersistentVolume", "", f"{self.namespace}-{name}")
        wait(
            lambda: self.cluster.everything("default") == self.elsewhere,
            f"nothing of {self.namespace} is left in the cluster",
        )

    def make(self, kind, name, rest=None):
        document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **(rest or {})}
        self.cluster.apply(document, self.namespace)

    def tell(self):
        """What may explain a fault."""
        for name, missing in self.node.missing.items():
            if missing:
                print(f"{name} waits for {missing}", file=sys.stderr)
        for event in self.cluster.get("Event", self.namespace):
            if event["type"] == "Warning":
                about = f"{event['involvedObject']['kind']} {event['involvedObject']['name']}"
                print(f"{about}: {event['reason']}: {event['message']}", file=sys.stderr)

    def run(self, *words, values=None, fails=False):
        """Helm, which has nothing to complain of."""
        if values is not None:
            file = self.folder / "values.yaml"
            file.write_text(json.dumps(merged(LEAST, values)))
            words = (*words, str(CHART), "--values", str(file))
        options = ["--kubeconfig", str(self.cluster.kubeconfig), "--namespace", self.namespace]
        ran = subprocess.run([self.helm, *words, *options], capture_output=True, text=True)
        what = f"helm {words[0]}"
        holds((ran.returncode != 0) == fails, f"{what}: {ran.returncode}: {ran.stdout}{ran.stderr}")
        if not fails:
            same(ran.stderr, "", f"{what} warns")
        return ran.stdout + ran.stderr

    def brings(self, word, values):
        """Installs or upgrades, and looks at what came of it."""
        ended = len(self.node.ended)
        self.run(word, RELEASE, "--wait", "--timeout", f"{PATIENCE}s", values=values)
        by_job = merged({"migrations": {"run": "job"}}, values)["migrations"]["run"] == "job"
        migrated = [phase for name, phase in self.node.ended[ended:] if name.startswith(f"{NAME}-migrations-")]
        same(migrated, ["Succeeded"] if by_job else [], f"migrations with {word}")
        holds(not self.all("batch/v1", "Job"), "the Job has gone")
        self.stands(merged(DEFAULTS, LEAST, values))

    def all(self, api, kind):
        return self.cluster.get(kind, self.namespace, api=api)

    def pods(self, labels):
        query = ",".join(f"{key}={value}" for key, value in labels.items())
        return self.cluster.get("Pod", self.namespace, labelSelector=query)

    def stands(self, values):
        """What the controllers make of the chart's objects."""
        components = ["combined"] if values["mode"] == "combined" else ["api", "worker", "scheduler"]
        wanted = {}
        for component in components:
            settings = merged(values["defaults"], values[component])
            scaling = settings["autoscaling"]
            wanted[f"{NAME}-{component}"] = scaling["minReplicas"] if scaling["enabled"] else settings["replicas"]

        def settled():
            self.cluster.running()
            deployments = self.all("apps/v1", "Deployment")
            found = {d["metadata"]["name"]: d["status"].get("availableReplicas") for d in deployments}
            there = {}
            for pod in self.pods({"app.kubernetes.io/instance": RELEASE}):
                name = f"{NAME}-{pod['metadata']['labels']['app.kubernetes.io/component']}"
                there[name] = there.get(name, 0) + 1
            return found == there == wanted

        wait(settled, f"pods: {wanted}")
        self.reaches(values)
        for budget in self.all("policy/v1", "PodDisruptionBudget"):
            name = budget["metadata"]["name"]

            def watched(path=self.cluster.path("policy/v1", "PodDisruptionBudget", self.namespace, name), name=name):
                status = self.cluster.call("GET", path)["status"]
                return status.get("expectedPods") == wanted[name] and status["disruptionsAllowed"] > 0

            wait(watched, f"the budget {name} lets a pod go")
        for scaler in self.all("autoscaling/v2", "HorizontalPodAutoscaler"):
            able = {c["type"]: c["status"] for c in scaler["status"]["conditions"]}
            same(able["AbleToScale"], "True", scaler["metadata"]["name"])
        # Of scalers because nobody measures.
        for event in self.all("v1", "Event"):
            about = event["involvedObject"]
            if about["kind"] != "HorizontalPodAutoscaler":
                holds(event["type"] == "Normal", f"{about['kind']} {about['name']}: {event['message']}")
        same(self.node.fault, None, "the node")

    def reaches(self, values):
        """Behind each Service are the pods that it is for, with the port where they listen."""
        grpc, metrics = [("grpc", 50051)], [("metrics", values["metrics"]["port"])]
        api = {"app.kubernetes.io/instance": RELEASE, "anklang/api": "true"}
        services = {NAME: (api, grpc), f"{NAME}-headless": (api, grpc)}
        if values["metrics"]["enabled"]:
            services[f"{NAME}-metrics"] = ({"app.kubernetes.io/instance": RELEASE}, metrics)
        same({s["metadata"]["name"] for s in self.all("v1", "Service")}, set(services), "Services")
        for name, (labels, ports) in services.items():

            def found(name=name, labels=labels, ports=ports):
                slices = self.cluster.get(
                    "EndpointSlice",
                    self.namespace,
                    api="discovery.k8s.io/v1",
                    labelSelector=f"kubernetes.io/service-name={name}",
                )
                ready = [e for s in slices for e in s["endpoints"] or [] if e["conditions"]["ready"]]
                ends = {address for end in ready for address in end["addresses"]}
                listening = {(p["name"], p["port"]) for s in slices for p in s["ports"] or []}
                pods = {pod["status"]["podIP"] for pod in self.pods(labels)}
                return pods and ends == pods and listening == set(ports)

            wait(found, f"the pods are behind the Service {name}")

    def ids(self):
        return {pod["metadata"]["uid"] for pod in self.pods({})}

    def tests(self):
        """`helm test` runs its Pod, and takes it away."""
        ended = len(self.node.ended)
        self.run("test", RELEASE, "--timeout", f"{PATIENCE}s")
        same(self.node.ended[ended:], [(f"{NAME}-test", "Succeeded")], "helm test")

    def goes(self, *stays):
        """Nothing stays but what is said to."""
        self.run("uninstall", RELEASE, "--wait", "--timeout", f"{PATIENCE}s")

        def left():
            return self.cluster.everything(self.namespace) - self.before

        with contextlib.suppress(AssertionError):
            wait(lambda: left() == set(stays), "gone", seconds=20)
        same(left(), set(stays), "what stays")


def make_namespace(cluster, name):
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
    # Controllers make them.
    wait(lambda: cluster.get("ServiceAccount", name, "default"), "the account of the namespace")
    wait(lambda: cluster.get("ConfigMap", name, "kube-root-ca.crt"), "the authority of the namespace")

"""Installs the chart into a Kubernetes: the real API server and controllers, with a Node that only says it runs Pods.

    helm/install.py HELM CLUSTER CRDS      (scripts/helm-install finds them)

HELM is the program, CLUSTER that of helm/controlplane, CRDS a folder with the definitions of the Gateway API and of
the Prometheus operator. Namespaces enforce the standard "restricted" for pods, and a warning is a fault.
"""

import contextlib
import json
import pathlib
import signal
import sys
import tempfile
import time

import yaml
from check import AXES, CRM, EDGE, FAST, ISSUER, LEAST, MAIL, PIN, Chart, holds, merged, pairs, same
from cluster import MERGE, PATIENCE, Cluster, Refused, say, wait
from release import DEFAULTS, NAME, RELEASE, Release, make_namespace

# Each role by itself, with all that is optional.
FULL = {
    "documents": {"s3SecretName": "bucket", "size": ""},
    "database": {
        "directSecretKey": "direct",
        "replicaSecretKey": "replica",
        "caSecretName": "database-ca",
        "clientSecretName": "database-client",
    },
    "migrations": {"secretName": "owner", "serviceAccountName": "migrations"},
    "sealing": {"secretName": "keys"},
    "plugins": {"source": "claim", "claim": {"name": "plugins", "folder": "lib"}},
    "telemetry": {"endpoint": "http://collector:4318", "headersSecretName": "otlp"},
    "tls": {"secretName": "tls"},
    "secretFiles": [
        {"name": "smtp", "secretName": "smtp"},
        {"name": "corporate", "secretName": "corporate-ca"},
        {"name": "callers", "secretName": "callers"},
    ],
    "config": {
        "documents": {"store": "s3", "s3": {"bucket": "acme"}},
        "database": {"pooler": "transaction"},
        "server": {"tls": {"client_ca": "/etc/anklang/secrets/callers/ca.crt"}},
        "channel_accounts": {"mail": MAIL},
        "auth": {"mode": "token", "tokens": {"crm": CRM}, "issuers": {"corporate": ISSUER}},
    },
    "defaults": {"autoscaling": {"enabled": True, "minReplicas": 3}, "maxUnavailable": "34%"},
    "networkPolicy": {"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 5432}]}]},
    "metrics": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True},
    "service": {"port": 443},
    "gateway": {
        "grpc": {"enabled": True, "parentRefs": [EDGE], "hostnames": ["a.example.com"]},
        "public": {"enabled": True, "parentRefs": [EDGE], "hostnames": ["post.example.com"]},
    },
    "ingress": {
        "grpc": {"enabled": True, "host": "a.example.com", "className": "nginx", "tlsSecretName": "tls"},
        "public": {"enabled": True, "host": "post.example.com"},
    },
}

# One Deployment, which migrates by itself, with plugins of an image.
COMBINED = {
    "mode": "combined",
    "migrations": {"run": "server"},
    "plugins": {
        "source": "imageVolume",
        "imageVolume": {"reference": f"registry.example.com/plugins@sha256:{PIN}", "folder": "lib"},
    },
    "config": {"channel_accounts": {"mail": MAIL}},
    "secretFiles": [{"name": "smtp", "secretName": "smtp"}],
    "serviceAccount": {"create": False},
}


def define(cluster, crds):
    """The kinds of others."""
    for file in sorted(crds.glob("*.yaml")):
        crd = yaml.load(file.read_text(), FAST)
        cluster.apply(crd)
        spec = crd["spec"]
        kinds = [(f"{spec['group']}/{v['name']}", spec["names"]["kind"]) for v in spec["versions"]]

        def served(kinds=kinds):
            cluster.kinds = {}
            # Groups are told of before their versions answer, and those before they can be listed.
            with contextlib.suppress(Refused):
                known = set(kinds) <= set(cluster.served())
                return known and [cluster.get(kind, "default", api=api) for api, kind in kinds]

        wait(served, f"{file.name} is served")
    cluster.warnings.clear()


def admitted(cluster, chart, version):
    """What is rendered of many values is admitted as it is, and so are the pods that come of it."""
    make_namespace(cluster, "sales")
    for name in ["migrations", "default"]:
        cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}, "sales")
    for value, name in enumerate(["high", "higher"], 1):
        priority = {"kind": "PriorityClass", "metadata": {"name": name}, "value": value}
        cluster.apply({"apiVersion": "scheduling.k8s.io/v1", **priority})
    seen, faults, rows = set(), [], list(pairs(list(AXES.values())))
    pods = cluster.path("v1", "Pod", "sales")
    for row in rows:
        values = merged(LEAST, *row)
        ran = chart.run(["template", RELEASE], values, "--namespace", "sales", "--kube-version", version)
        holds(ran.returncode == 0, ran.stderr)
        # Accounts first: they stay, for the pods' sake.
        documents = sorted(filter(None, yaml.load_all(ran.stdout, FAST)), key=lambda d: d["kind"] != "ServiceAccount")
        for document in documents:
            text = json.dumps(document, sort_keys=True)
            if text in seen:
                continue
            seen.add(text)
            try:
                stays = document["kind"] == "ServiceAccount"
                cluster.apply(document, "sales", **({} if stays else {"dryRun": "All"}))
                if template := document.get("spec", {}).get("template"):
                    metadata = {**template["metadata"], "generateName": f"{document['metadata']['name']}-"}
                    pod = {**template, "apiVersion": "v1", "kind": "Pod", "metadata": metadata}
                    cluster.call("POST", pods, pod, dryRun="All", fieldValidation="Strict")
            except Exception as fault:  # each counts, whatever it is
                faults.append(f"{fault}\n  with {json.dumps(values)}")
    faults += cluster.warnings
    cluster.warnings.clear()
    holds(not faults, "\n".join(dict.fromkeys(faults)))
    say(f"{len(seen)} objects of {len(rows)} combinations, and their pods, are admitted without a warning")


def lives(release):
    """From the installation with few values to the end, and once more."""
    release.brings("install", {})
    release.tests()
    pods = release.ids()
    release.brings("upgrade", {})
    same(release.ids(), pods, "pods that nothing has changed for")
    changed = {"worker": {"replicas": 3}, "config": {"log": {"filter": "debug"}}}
    release.brings("upgrade", changed)
    holds(not release.ids() & pods, "each pod is a new one, with the new settings")
    pods = release.ids()
    release.node.failing = True
    worse = merged(changed, {"config": {"log": {"filter": "trace"}}, "migrations": {"backoffLimit": 0}})
    release.run("upgrade", RELEASE, "--timeout", f"{PATIENCE}s", values=worse, fails=True)
    release.node.failing = False
    servers = {pod["metadata"]["uid"] for pod in release.pods({"anklang/api": "true"})}
    holds(servers <= pods, "migrations fail, and the version before serves on")
    holds(release.all("batch/v1", "Job"), "the Job that failed stays to be looked at")
    release.cluster.warnings.clear()
    forget_events(release)
    release.brings("upgrade", changed)
    same(release.ids(), pods, "pods after the repetition")
    ended = len(release.node.ended)
    release.run("rollback", RELEASE, "1", "--wait", "--timeout", f"{PATIENCE}s")
    release.stands(merged(DEFAULTS, LEAST))
    same(release.node.ended[ended:], [], "a rollback does not migrate")
    kept = f"PersistentVolumeClaim {NAME}-documents"
    release.goes(kept)
    release.brings("install", {})
    release.goes(kept)
    say("few values: installed, tested, upgraded, not upgraded, rolled back, uninstalled; installed again on its claim")


def grows(release):
    """From few values to all that there is, to one Deployment, and back."""
    kept = f"PersistentVolumeClaim {NAME}-documents"
    release.brings("install", FULL)
    release.tests()
    release.goes()
    release.brings("install", COMBINED)
    release.tests()
    release.brings("upgrade", FULL)
    release.tests()
    # As an autoscaler does.
    worker = release.cluster.path("apps/v1", "Deployment", release.namespace, f"{NAME}-worker")
    release.cluster.call("PATCH", f"{worker}/scale", {"spec": {"replicas": 5}}, MERGE)
    release.run("upgrade", RELEASE, "--wait", "--timeout", f"{PATIENCE}s", values=FULL)
    same(release.cluster.call("GET", worker)["spec"]["replicas"], 5, "what the autoscaler wants stays")
    # Helm takes autoscalers away last; what one has said meanwhile, the next upgrade takes back.
    release.run("upgrade", RELEASE, "--wait", "--timeout", f"{PATIENCE}s", values={})
    release.brings("upgrade", {})
    release.brings("upgrade", COMBINED)
    release.goes(kept)
    say("all values, one Deployment, few values: installed, tested, changed into one another, uninstalled")


def forget_events(release):
    for event in release.all("v1", "Event"):
        release.cluster.delete("Event", release.namespace, event["metadata"]["name"])


def main():
    helm, program, crds = sys.argv[1:]
    # What was started is ended then as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Cluster(program, folder) as cluster:
        version = cluster.call("GET", "/version")["gitVersion"].split("+")[0]
        crds = pathlib.Path(crds)
        define(cluster, crds)
        say(f"Kubernetes {version} answers")
        admitted(cluster, Chart(helm, crds), version)
        for story, namespace in [(lives, "few"), (grows, "many")]:
            with Release(cluster, helm, pathlib.Path(folder), namespace) as release:
                story(release)
    say(f"in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()

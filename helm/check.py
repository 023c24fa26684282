"""Checks the chart: renders it with many values, looks at what comes out, and tries values that are wrong.

    helm/check.py HELM [CRDS]      (scripts/helm-check finds both)

HELM is the program, CRDS a folder with the definitions of the Gateway API and of the Prometheus operator. Nothing
is installed anywhere.
"""

import copy
import hashlib
import itertools
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "helm/anklang"
# The oldest that the chart admits, and those between which fields came that it uses.
VERSIONS = ["1.27", "1.31", "1.34"]
PIN = "ab" * 32
FAST = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
ROLES = {"api", "worker", "scheduler"}
# Variables of the pods that are no settings of the program.
OTHER_VARIABLES = {"ANKLANG_CONFIG", "POD_NAME", "POD_NAMESPACE", "OTEL_RESOURCE_ATTRIBUTES", "MORE"}
OTHER_VARIABLES |= {f"ANKLANG_{name}" for name in ["SERVER", "SERVER_NAME", "CA", "CERTIFICATE", "KEY"]}

# The least that the chart wants.
LEAST = {
    "database": {"secretName": "anklang-database"},
    "documents": {"size": "10Gi"},
    "tls": {"plainText": True},
    "config": {"auth": {"anybody": True}},
}

MAIL = {
    "plugin": "mail",
    "sha256": PIN,
    "rate": "100/minute",
    "config": {
        "host": "smtp.example.com",
        "port": 587,
        "password_file": "/etc/anklang/secrets/smtp/password",
        "dkim": [{"domain": "example.com", "selector": 'a"b\\c <&>'}],
    },
}

TOOTS = {
    "plugin": "social",
    "sha256": PIN,
    "process": {"environment": ["TOOTS_TOKEN"]},
    "config": {"access_token": {"env": "TOOTS_TOKEN"}},
}

CRM = {"sha256": PIN, "tenants": ["acme"], "roles": ["service"]}

ISSUER = {
    "issuer": "https://id.example.com",
    "audience": "anklang",
    "tls_ca": "/etc/anklang/secrets/corporate/ca.crt",
    "roles_claim": "realm_access.roles",
    "role_names": {"Sales HQ": "central"},
}

IMPORTER = {"spiffe_id": "spiffe://example.org/ns/crm/sa/importer", "tenants": ["acme"], "roles": ["service"]}
DESK = {"subject": "CN=desk,O=Acme", "tenants": ["*"], "roles": ["clerk"], "worker": "anna"}

EDGE = {"name": "edge", "namespace": "infra"}


def gateways(*routes):
    """Values for both routes, each with its parents and hostnames."""
    routes = [{"enabled": True, "parentRefs": parents, "hostnames": hosts} for parents, hosts in routes]
    return {"gateway": dict(zip(["grpc", "public"], routes))}


# What each part of the values may be; combinations are made so that each two occur together.
AXES = {
    "mode": [{"mode": "roles"}, {"mode": "combined"}],
    "documents": [
        {},
        {"documents": {"existingClaim": "share"}},
        {
            "documents": {"s3SecretName": "bucket", "size": ""},
            "config": {"documents": {"store": "s3", "s3": {"bucket": "acme", "prefix": "anklang/a"}}},
        },
        {
            "documents": {"size": ""},
            "config": {"documents": {"store": "s3", "letters_per_print_file": 100000, "s3": {"bucket": "b"}}},
        },
        {"documents": {"storageClassName": "nfs", "accessModes": ["ReadWriteOnce"]}},
    ],
    "plugins": [
        {},
        {
            "plugins": {
                "source": "imageVolume",
                "imageVolume": {"reference": f"registry.example.com/plugins@sha256:{PIN}", "folder": "lib"},
            },
            "config": {"channel_accounts": {"mail": MAIL, "toots": TOOTS}},
        },
        {
            "plugins": {"source": "claim", "claim": {"name": "plugins"}},
            "config": {"channel_accounts": {"mail": MAIL}, "telemetry": {"sampling_ratio": 0.25, "logs": True}},
        },
    ],
    "migrations": [
        {},
        {"migrations": {"run": "server"}},
        {"migrations": {"run": "none"}},
        {"migrations": {
                "secretName": "owner",
                "secretKey": "uri",
                "clientSecretName": "owner-client",
                "serviceAccountName": "migrations",
                "podAnnotations": {"sidecar.istio.io/inject": "false"},
                "podLabels": {"team": "databases"},
                "nodeSelector": {"disk": "any"},
                "tolerations": [{"key": "databases", "operator": "Exists"}],
                "affinity": {"podAntiAffinity": {}},
                "priorityClassName": "higher",
            }},
        {"migrations": {"nodeSelector": {"disk": "any"}}},
        {"migrations": {"secretName": "owner"}, "config": {"database": {"pooler": "transaction"}}},
        {"migrations": {"run": "none"}, "config": {"database": {"pooler": "transaction"}}},
        {"database": {"replicaSecretKey": "replica"}, "config": {"database": {"pooler": "none"}}},
        {"database": {"directSecretKey": "direct"}, "config": {"database": {"pooler": "transaction"}}},
        {
            "migrations": {"run": "server"},
            "database": {"directSecretKey": "direct", "replicaSecretKey": "replica"},
            "config": {"database": {"pooler": "transaction", "replica_max_lag_seconds": 10}},
        },
    ],
    "network": [
        {},
        {"networkPolicy": {"enabled": False}},
        {
            "networkPolicy": {
                "from": [{"namespaceSelector": {"matchLabels": {"team": "sales"}}}],
                "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 5432}]}],
            }
        },
    ],
    "reach": [
        {},
        {
            # Not the same hostnames: a wildcard is one label at least.
            **gateways(([EDGE], ["*.a.example.com", "b.example.com"]), ([EDGE], ["a.example.com", "*.b.example.com"])),
            "service": {"port": 80, "annotations": {"a": "b"}},
            "config": {
                "auth": {
                    "mode": "token",
                    "anybody": False,
                    "tokens_file": "/etc/anklang/secrets/tokens/tokens.toml",
                    "tokens": {"crm": CRM},
                    "issuers": {"corporate": ISSUER},
                }
            },
            "secretFiles": [
                {"name": "corporate", "secretName": "corporate-ca"},
                {"name": "tokens", "secretName": "tokens"},
            ],
        },
        # All hostnames, but not the same listeners.
        gateways(
            ([{**EDGE, "port": 443}, {"name": "edge", "sectionName": "grpc"}], []),
            ([{**EDGE, "port": 80}, {"name": "edge", "sectionName": "web"}, {**EDGE, "namespace": "other"}], []),
        ),
        {
            "ingress": {
                "grpc": {"enabled": True, "host": "a.example.com", "className": "nginx", "tlsSecretName": "tls"},
                "public": {"enabled": True, "host": "post.example.com", "annotations": {"a": "b"}},
            }
        },
    ],
    "tls": [
        {},
        {"tls": {"secretName": "tls", "plainText": False}},
        {
            "tls": {"secretName": "tls", "serverName": "a.example.com", "caKey": "", "clientSecretName": "probe"},
            "config": {
                "server": {
                    "tls": {
                        "client_ca": "/etc/anklang/secrets/callers/ca.crt",
                        "require_client_certificate": True,
                        "reload_seconds": 60,
                    }
                }
            },
            "secretFiles": [{"name": "callers", "secretName": "callers"}],
            "database": {"caSecretName": "database-ca"},
        },
        {
            "tls": {"secretName": "tls"},
            "config": {
                "server": {"tls": {"client_ca": "/etc/anklang/tls/ca.crt", "require_client_certificate": True}},
                "auth": {"mode": "token", "certificates": {"importer": IMPORTER, "desk": DESK}},
            },
            "database": {
                "caSecretName": "database-ca",
                "caKey": "root.pem",
                "clientSecretName": "database-client",
            },
        },
    ],
    "scaling": [
        {},
        {"defaults": {"autoscaling": {"enabled": True}, "maxUnavailable": "25%"}},
        {
            "worker": {
                "autoscaling": {
                    "enabled": True,
                    "cpu": 0,
                    "external": [
                        {
                            "metric": {"name": "anklang_due_messages"},
                            "target": {"type": "AverageValue", "averageValue": "5000"},
                        }
                    ],
                }
            },
            "scheduler": {"replicas": 1, "maxUnavailable": 0},
        },
    ],
    "metrics": [
        {},
        {"metrics": {"enabled": True}},
        {
            "metrics": {
                "enabled": True,
                "port": 9100,
                "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            },
            "serviceMonitor": {"enabled": True, "interval": "1m", "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}, "alertLabels": {"team": "sales"}},
            "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Outreach"}},
        },
        {
            "metrics": {"enabled": True},
            "prometheusRule": {
                "enabled": True,
                "matchers": 'cluster="one", job="anklang"',
                "thresholds": {"oldestDueSeconds": 60, "oldestDueOfTenantsSeconds": 86400, "failedCallsPercent": 0.5, "refusedCalls": 0},
                "alertLabels": {"severity": "page"},
            },
        },
    ],
    "more": [
        {},
        {
            "sealing": {"secretName": "keys"},
            "telemetry": {"endpoint": "http://collector:4318", "headersSecretName": "otlp"},
            "image": {"digest": f"sha256:{PIN}"},
            "imagePullSecrets": [{"name": "registry"}],
            "secretFiles": [{"name": "smtp", "secretName": "smtp"}],
            "extraEnv": [{"name": "MORE", "value": "1"}],
            "extraEnvFrom": [{"secretRef": {"name": "more"}}],
            "server": {"address": "[::]", "drainSeconds": 0, "graceSeconds": 3600},
            "config": {
                "server": {
                    "cors_origins": ["https://app.example.com"],
                    "limits": {"connections": 10000, "connection_age_seconds": 600},
                }
            },
        },
        {
            "serviceAccount": {"create": False},
            "fullnameOverride": "a-name-that-is-much-too-long-for-what-is-made-of-it-in-a-cluster",
            "defaults": {
                "nodeSelector": {"disk": "ssd"},
                "tolerations": [{"key": "outreach", "operator": "Exists"}],
                "affinity": {"nodeAffinity": {}},
                "topologySpreadConstraints": [
                    {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
                ],
                "priorityClassName": "high",
                "podAnnotations": {"a": "b"},
                "podLabels": {"team": "sales"},
            },
            "test": {"podAnnotations": {"c": "d"}, "podLabels": {"team": "tests"}},
        },
        {"serviceAccount": {"name": "own", "annotations": {"iam": "role"}}, "nameOverride": "outreach"},
    ],
}

# Values that must be refused, and a word of the reason.
WRONG = [
    ({"database": {"secretName": ""}}, "secretName"),
    ({"documents": {"size": ""}}, "documents"),
    ({"documents": {"size": "much"}}, "size"),
    ({"config": {"documents": {"store": "s3"}}}, "bucket"),
    ({"config": {"documents": {"store": "ftp"}}}, "store"),
    ({"config": {"documents": {"s3": {"secret_access_key": "x"}}}}, "secret_access_key"),
    ({"config": {"database": {"url": "postgres://user:password@host/db"}}}, "url"),
    ({"config": {"server": {"listen": "127.0.0.1:1"}}}, "listen"),
    ({"config": {"server": {"roles": ["api"]}}}, "roles"),
    ({"config": {"server": {"plain_text": False}}}, "plain_text"),
    ({"config": {"server": {"cors_origins": ["*"]}}}, "cors_origins"),
    ({"config": {"server": {"limits": {"streams": "many"}}}}, "streams"),
    ({"config": {"server": {"limits": 3}}}, "limits"),
    ({"config": {"server": {"tls": {"certificate": "/tls.crt"}}}}, "certificate"),
    ({"config": {"server": {"tls": {"client_ca": "/ca.crt"}}}}, "tls.secretName"),
    ({"config": {"database": {"tls_ca": "/ca.crt"}}}, "tls_ca"),
    ({"config": {"database": {"tls_key": "/tls.key"}}}, "tls_key"),
    ({"tls": {"plainText": False}}, "tls.secretName, or set tls.plainText to true"),
    ({"tls": {"plainText": "yes"}}, "plainText"),
    ({"tls": {"secretName": "tls", "caKey": "../ca.crt"}}, "caKey"),
    ({"tls": {"secretName": "tls", "serverName": "a b"}}, "serverName"),
    ({"config": {"keys": {"sealing": ["a:b"]}}}, "sealing"),
    ({"config": {"telemetry": {"headers": ["authorization=x"]}}}, "headers"),
    ({"config": {"auth": {"mode": "password"}}}, "mode"),
    ({"config": {"auth": {"anybody": False}}}, "config.auth"),
    ({"config": {"auth": {"mode": "none", "anybody": False}}}, "config.auth"),
    ({"config": {"auth": {"anybody": "yes"}}}, "anybody"),
    ({"config": {"auth": {"mode": "token", "open_health": False}}}, "open_health"),
    ({"config": {"auth": {"tokens": {"crm": {**CRM, "token": "anklang_x"}}}}}, "token"),
    ({"config": {"auth": {"tokens": {"crm": {**CRM, "sha256": "abc"}}}}}, "sha256"),
    ({"config": {"auth": {"tokens": {"crm": {**CRM, "tenants": []}}}}}, "tenants"),
    ({"config": {"auth": {"issuers": {"corporate": {"issuer": "https://id.example.com"}}}}}, "audience"),
    ({"config": {"auth": {"certificates": {"importer": IMPORTER}}}}, "client_ca"),
    ({"config": {"auth": {"certificates": {"desk": {"subject": "CN=desk", "tenants": ["*"]}}}}}, "roles"),
    ({"config": {"auth": {"certificates": {"desk": {**DESK, "spiffe_id": "spiffe://a/b"}}}}}, "desk"),
    ({"config": {"auth": {"certificates": {"crm": {"tenants": ["*"], "roles": ["service"]}}}}}, "crm"),
    ({"config": {"auth": {"certificates": {"crm": {**IMPORTER, "spiffe_id": "crm"}}}}}, "spiffe_id"),
    ({"config": {"colour": {"red": 1}}}, "colour"),
    ({"config": {"channel_accounts": {"mail": {"sha256": PIN}}}}, "plugin"),
    ({"config": {"channel_accounts": {"mail": {"plugin": "mail", "sha256": "abc"}}}}, "sha256"),
    ({"config": {"channel_accounts": {"Mail": {"plugin": "mail"}}}}, "Mail"),
    ({"config": {"channel_accounts": {"a": {"plugin": "mail", "config": {"password": "x"}}}}}, "password"),
    ({"config": {"channel_accounts": {"a": {"plugin": "mail", "config": {"dkim": [{"key": "x"}]}}}}}, "dkim"),
    ({"config": {"channel_accounts": {"a": {"plugin": "x", "config": {"w": {"callback_token": "x"}}}}}}, "config"),
    ({"plugins": {"source": "claim"}}, "plugins.claim.name"),
    ({"plugins": {"source": "imageVolume"}}, "plugins.imageVolume.reference"),
    ({"plugins": {"source": "imageVolume", "imageVolume": {"reference": "plugins:latest"}}}, "reference"),
    (
        {
            "plugins": {"source": "claim", "claim": {"name": "plugins"}},
            "config": {"channel_accounts": {"mail": {"plugin": "mail"}}},
        },
        "must be pinned",
    ),
    ({"plugins": {"claim": {"folder": "../etc"}}}, "folder"),
    ({"mode": "all"}, "mode"),
    ({"replicas": 3}, "replicas"),
    ({"api": {"replicas": -1}}, "replicas"),
    ({"api": {"replica": 1}}, "replica"),
    ({"server": {"graceSeconds": "long"}}, "graceSeconds"),
    ({"image": {"digest": "latest"}}, "digest"),
    ({"migrations": {"run": "always"}}, "run"),
    ({"config": {"database": {"pooler": "transaction"}}}, "directSecretKey"),
    (
        {
            "migrations": {"run": "server", "secretName": "owner"},
            "config": {"database": {"pooler": "transaction"}},
        },
        "directSecretKey",
    ),
    ({"migrations": {"nodeSelector": {"disk": 1}}}, "nodeSelector"),
    ({"test": {"podLabels": ["team"]}}, "podLabels"),
    ({"worker": {"autoscaling": {"enabled": True, "cpu": 0}}}, "worker.autoscaling"),
    ({"worker": {"autoscaling": {"enabled": True, "minReplicas": 9}}}, "minReplicas"),
    ({"gateway": {"grpc": {"enabled": True}}}, "gateway.grpc.parentRefs"),
    *(
        (gateways(*routes), "gateway.grpc and gateway.public")
        for routes in [
            (([EDGE], []), ([EDGE], [])),
            (([EDGE], ["a.example.com"]), ([EDGE], [])),
            (([EDGE], []), ([EDGE], ["a.example.com"])),
            (([EDGE], ["b.example.com", "a.example.com"]), ([EDGE], ["c.example.com", "a.example.com"])),
            (([EDGE], ["*.example.com"]), ([EDGE], ["b.a.example.com"])),
            (([EDGE], ["a.example.com"]), ([EDGE], ["*.example.com"])),
            (([EDGE], ["*.a.example.com"]), ([EDGE], ["*.example.com"])),
            (([EDGE], ["*.example.com"]), ([EDGE], ["*.a.example.com"])),
            # Without a name of the listener all of them are meant, without a namespace the release's.
            (([{**EDGE, "sectionName": "https"}], []), ([EDGE], [])),
            (([{**EDGE, "sectionName": "https", "port": 443}], []), ([{**EDGE, "port": 443}], [])),
            (([{"name": "edge"}], []), ([{"name": "edge", "namespace": "default", "kind": "Gateway"}], [])),
            (([{"name": "inner"}, EDGE], []), ([{"name": "outer"}, EDGE], [])),
        ]
    ),
    ({"ingress": {"public": {"enabled": True}}}, "ingress.public.host"),
    ({"telemetry": {"endpoint": "collector:4318"}}, "endpoint"),
    ({"config": {"telemetry": {"prometheus_listen": "0.0.0.0:1"}}}, "prometheus_listen"),
    ({"metrics": {"enabled": True, "port": 50051}}, "port"),
    ({"metrics": {"enabled": True, "port": 80}}, "port"),
    ({"serviceMonitor": {"enabled": True}}, "serviceMonitor.enabled"),
    ({"prometheusRule": {"enabled": True}}, "prometheusRule.enabled"),
    ({"dashboards": {"enabled": True}}, "dashboards.enabled"),
    ({"metrics": {"enabled": True}, "serviceMonitor": {"enabled": True, "interval": "often"}}, "interval"),
    ({"prometheusRule": {"matchers": "anklang"}}, "matchers"),
    ({"prometheusRule": {"matchers": 'a="b"} or {c="d"'}}, "matchers"),
    ({"prometheusRule": {"thresholds": {"failedCallsPercent": 101}}}, "failedCallsPercent"),
    ({"secretFiles": [{"name": "../etc", "secretName": "x"}]}, "name"),
]


def merged(*parts):
    """Maps laid over one another."""
    result = {}
    for part in parts:
        for key, value in part.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


def pairs(axes):
    """Choices of one from each axis, so that each two of different axes occur together; few, not fewest."""
    sizes = [range(len(choices)) for choices in axes]
    open_ = {
        (a, i, b, j)
        for a, b in itertools.combinations(range(len(axes)), 2)
        for i in sizes[a]
        for j in sizes[b]
    }
    while open_:
        a, i, b, j = min(open_)
        row = {a: i, b: j}
        for axis in range(len(axes)):
            if axis in row:
                continue

            def gain(choice):
                return sum(
                    ((o, c, axis, choice) if o < axis else (axis, choice, o, c)) in open_ for o, c in row.items()
                )

            row[axis] = max(sizes[axis], key=gain)
        open_ -= {(a, row[a], b, row[b]) for a, b in itertools.combinations(range(len(axes)), 2)}
        yield [axes[axis][row[axis]] for axis in range(len(axes))]


class Chart:
    def __init__(self, helm, crds):
        self.helm = helm
        self.folder = tempfile.TemporaryDirectory()
        self.crds = {}
        self.fitting = set()
        for path in sorted(crds.glob("*.yaml")) if crds else []:
            # Python wants the flags of a pattern before all else, Go does not.
            crd = yaml.load(path.read_text().replace("^(?i)", "(?i)^"), FAST)
            for version in crd["spec"]["versions"]:
                api = f"{crd['spec']['group']}/{version['name']}"
                self.crds[(api, crd["spec"]["names"]["kind"])] = version["schema"]["openAPIV3Schema"]
        self.defaults = yaml.safe_load((CHART / "values.yaml").read_text())
        self.settings = tomllib.loads((ROOT / "anklang.toml").read_text())

    def run(self, command, values, *arguments, chart=CHART):
        text = json.dumps(values)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        file = pathlib.Path(self.folder.name) / f"{name}.yaml"
        file.write_text(text)
        return subprocess.run(
            [self.helm, *command, chart, "--values", file, *arguments], capture_output=True, text=True
        )

    def render(self, values):
        ran = self.run(["template", "outreach"], values, "--namespace", "sales", "--kube-version", "1.34")
        if ran.returncode:
            raise AssertionError(ran.stderr.strip())
        documents = [d for d in yaml.load_all(ran.stdout, UniqueKeys) if d]
        self.look(documents, merged(self.defaults, values))
        return documents

    def look(self, documents, values):
        """All that must hold of what was rendered."""
        names = [(d["kind"], d["metadata"]["name"]) for d in documents]
        same(sorted(names), sorted(set(names)), "names")
        for document in documents:
            self.fits(document)
            for label in document["metadata"]["labels"].values():
                holds(isinstance(label, str) and len(label) <= 63, f"label {label}")
        kinds = {}
        for document in documents:
            kinds.setdefault(document["kind"], []).append(document)
        deployments = kinds["Deployment"]
        pods = [(d, d["spec"]["template"]) for d in deployments + kinds.get("Job", [])]
        pods += [(d, d) for d in kinds["Pod"]]
        for owner, pod in pods:
            self.look_at_pod(owner, pod, documents)
            self.look_at_placing(owner, pod, values)
        self.look_at_roles(deployments, values)
        for owner, pod in pods:
            self.look_at_tls(owner, pod, values)
            self.look_at_migrations(owner, pod, values)
        self.look_at_references(kinds)
        self.look_at_metrics(kinds, values)
        (config,) = [d["data"]["anklang.toml"] for d in kinds["ConfigMap"] if "anklang.toml" in d["data"]]
        config = tomllib.loads(config)
        same(config, values["config"], "the configuration as TOML")

    def fits(self, document):
        # Most documents come again with other values.
        text = json.dumps(document, sort_keys=True)
        if text in self.fitting:
            return
        self.fitting.add(text)
        kind = (document["apiVersion"], document["kind"])
        if kind[0].startswith(("gateway.", "monitoring.")):
            if self.crds:
                jsonschema.validate(document, self.crds[kind])
            return
        uses_images = any("image" in v for v in volumes(document))
        for version in VERSIONS:
            # Volumes of images came with 1.31.
            if not (uses_images and version == "1.27"):
                kubernetes_validate.validate(document, version, strict=True)

    def look_at_pod(self, owner, pod, documents):
        """What the standard "restricted" of pods asks for, and what our program needs."""
        where = owner["metadata"]["name"]
        spec = pod["spec"]
        holds(len(where) <= 52, f"{where}: too long for names of pods")
        same(spec["automountServiceAccountToken"], False, where)
        same(spec["enableServiceLinks"], False, where)
        security = spec["securityContext"]
        same((security["runAsNonRoot"], security["seccompProfile"]), (True, {"type": "RuntimeDefault"}), where)
        holds(security["runAsUser"] > 0, where)
        for forbidden in ["hostNetwork", "hostPID", "hostIPC", "initContainers"]:
            holds(forbidden not in spec, f"{where}: {forbidden}")
        (container,) = spec["containers"]
        own = container["securityContext"]
        same((own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]), (False, True), where)
        same(own["capabilities"], {"drop": ["ALL"]}, where)
        holds("requests" in container["resources"], f"{where}: resources")
        given = [v["name"] for v in container.get("env", [])]
        same(sorted(given), sorted(set(given)), f"{where}: variables")
        for name in set(given) - OTHER_VARIABLES:
            at = self.settings
            for key in name.removeprefix("ANKLANG_").lower().split("__"):
                holds(isinstance(at, dict) and key in at, f"{where}: {name} is no setting of anklang.toml")
                at = at[key]
        there = {v["name"]: v for v in spec.get("volumes", [])}
        mounted = {m["name"] for m in container.get("volumeMounts", [])}
        same(mounted, set(there), f"{where}: volumes")
        for volume in there.values():
            holds("hostPath" not in volume, f"{where}: hostPath")
        made = {d["metadata"]["name"] for d in documents if d["kind"] == "ServiceAccount"}
        account = spec["serviceAccountName"]
        hook = owner["metadata"].get("annotations", {}).get("helm.sh/hook", "")
        holds("pre-install" not in hook or account not in made, f"{where}: {account} is not there yet")

    def look_at_placing(self, owner, pod, values):
        """Every pod runs where its own settings say, or else those of all: a Deployment's one by one, the Job's together."""
        where = owner["metadata"]["name"]
        own = values[owner["metadata"]["labels"]["app.kubernetes.io/component"]]
        keys = ["nodeSelector", "tolerations", "affinity", "priorityClassName"]
        together = owner["kind"] != "Deployment" and any(own.get(key) for key in keys)
        for key in keys:
            wanted = own.get(key) or values["defaults"][key]
            if together:
                wanted = own.get(key) or type(wanted)()
            same(pod["spec"].get(key, type(wanted)()), wanted, f"{where}: {key}")
        of = merged(values["defaults"], own) if owner["kind"] == "Deployment" else own
        for key, asked in [("annotations", of["podAnnotations"]), ("labels", of["podLabels"])]:
            holds(asked.items() <= pod["metadata"].get(key, {}).items(), f"{where}: {key}")

    def look_at_roles(self, deployments, values):
        roles = []
        for deployment in deployments:
            where = deployment["metadata"]["name"]
            template = deployment["spec"]["template"]
            (container,) = template["spec"]["containers"]
            variables = {v["name"]: v.get("value") for v in container["env"]}
            own = json.loads(variables["ANKLANG_SERVER__ROLES"])
            roles += own
            same(template["metadata"]["labels"].get("anklang/api") == "true", "api" in own, where)
            drain = int(variables["ANKLANG_SERVER__DRAIN_SECONDS"])
            grace = int(variables["ANKLANG_SERVER__SHUTDOWN_GRACE_SECONDS"])
            # Plugins, telemetry and threads get five seconds each after the grace period.
            holds(template["spec"]["terminationGracePeriodSeconds"] >= drain + grace + 15, f"{where}: grace")
            for probe in [container[f"{name}Probe"] for name in ["startup", "liveness", "readiness"]]:
                if values["tls"]["secretName"]:
                    same(probe["exec"]["command"][:2], ["anklang", "health"], where)
                else:
                    same(probe["grpc"]["port"], container["ports"][0]["containerPort"], where)
            migrates = variables["ANKLANG_DATABASE__MIGRATE"]
            same(migrates, "true" if values["migrations"]["run"] == "server" else "false", where)
        same(sorted(roles), sorted(ROLES), "each role once")

    def look_at_migrations(self, owner, pod, values):
        """Whoever migrates by the URL of servers goes past a pooler as they do; by one of its own there is none. All
        log as they do.
        """
        (container,) = pod["spec"]["containers"]
        if container["args"] == ["migrate"]:
            given = [v["value"] for v in container["env"] if v["name"] == "ANKLANG_DATABASE__POOLER"]
            pooler = values["config"].get("database", {}).get("pooler")
            behind = pooler not in (None, "none") and not values["migrations"]["secretName"]
            wanted = [pooler] if behind else []
            same(given, wanted, f"{owner['metadata']['name']}: its pooler")
        if container["args"] == ["migrate"] and not values["migrations"]["secretName"]:
            direct = {"name": values["database"]["secretName"], "key": values["database"]["directSecretKey"]}
            given = [v["valueFrom"] for v in container["env"] if v["name"] == "ANKLANG_DATABASE__DIRECT_URL"]
            wanted = [{"secretKeyRef": direct}] if direct["key"] else []
            same(given, wanted, f"{owner['metadata']['name']}: past a pooler")
        if container["args"] == ["migrate"]:
            (form,) = [v["value"] for v in container["env"] if v["name"] == "ANKLANG_LOG__FORMAT"]
            wanted = values["config"].get("log", {}).get("format", "text")
            same(form, wanted, f"{owner['metadata']['name']}: logs")

    def look_at_tls(self, owner, pod, values):
        """Servers speak TLS or plain text on purpose, callers speak the same, and files are mounted."""
        where = owner["metadata"]["name"]
        (container,) = pod["spec"]["containers"]
        variables = {v["name"]: v.get("value") for v in container.get("env", [])}
        by_tls = values["tls"]["secretName"] != ""
        if container["args"] == ["serve"]:
            same("ANKLANG_SERVER__TLS__KEY" in variables, by_tls, f"{where}: TLS")
            same(variables.get("ANKLANG_SERVER__PLAIN_TEXT"), None if by_tls else "true", f"{where}: plain text")
        if container["args"] != ["migrate"]:
            called = variables.get("ANKLANG_SERVER", container["args"][-1])
            holds(not by_tls or called.startswith("https://"), f"{where}: calls {called}")
            shows = values["config"].get("server", {}).get("tls", {}).get("require_client_certificate", False)
            same("ANKLANG_KEY" in variables, shows, f"{where}: a certificate to show")
        if container["args"][0] != "health":
            asked = values["database"].get("caSecretName", "") != ""
            same("ANKLANG_DATABASE__TLS_CA" in variables, asked, f"{where}: authorities of the database")
            shown = values["database"].get("clientSecretName", "") != ""
            if container["args"] == ["migrate"]:
                shown = shown or values["migrations"].get("clientSecretName", "") != ""
            for name in ["CERTIFICATE", "KEY"]:
                same(f"ANKLANG_DATABASE__TLS_{name}" in variables, shown, f"{where}: shown to the database")
        folders = {m["mountPath"] for m in container.get("volumeMounts", [])}
        files = ["CERTIFICATE", "KEY", "SERVER__TLS__CERTIFICATE", "SERVER__TLS__KEY", "CA", "DATABASE__TLS_CA"]
        for name in [*files, "DATABASE__TLS_CERTIFICATE", "DATABASE__TLS_KEY"]:
            if file := variables.get(f"ANKLANG_{name}"):
                holds(file.rsplit("/", 1)[0] in folders, f"{where}: {file} is not mounted")

    def look_at_metrics(self, kinds, values):
        """Prometheus finds each pod at the port where it listens, and is asked for what there is."""
        port, on = values["metrics"]["port"], values["metrics"]["enabled"]
        for deployment in kinds["Deployment"]:
            (container,) = deployment["spec"]["template"]["spec"]["containers"]
            variables = {v["name"]: v.get("value") for v in container["env"]}
            listen = f"{values['server']['address']}:{port}" if on else None
            same(variables.get("ANKLANG_TELEMETRY__PROMETHEUS_LISTEN"), listen, "where metrics are")
            ports = {p["name"]: p["containerPort"] for p in container["ports"]}
            same(ports.get("metrics"), port if on else None, "the port of metrics")
        services = [s for s in kinds["Service"] if s["spec"]["ports"][0]["name"] == "metrics"]
        same(len(services), int(on), "Services of metrics")
        let_in = [
            rule["from"]
            for policy in kinds.get("NetworkPolicy", [])
            for rule in policy["spec"].get("ingress", [])
            if rule["ports"][0]["port"] == port
        ]
        wanted = [values["metrics"]["from"] or [{"namespaceSelector": {}}]]
        same(let_in, wanted if on and values["networkPolicy"]["enabled"] else [], "who may scrape")
        for monitor in kinds.get("ServiceMonitor", []):
            wanted = monitor["spec"]["selector"]["matchLabels"].items()
            found = [s for s in kinds["Service"] if wanted <= s["metadata"]["labels"].items()]
            same(found, services, "Services of a ServiceMonitor")
            same([e["port"] for e in monitor["spec"]["endpoints"]], ["metrics"], "ports of a ServiceMonitor")
        for rules in kinds.get("PrometheusRule", []):
            (group,) = rules["spec"]["groups"]
            job = values["prometheusRule"]["matchers"] or f'namespace="sales", job="{services[0]["metadata"]["name"]}"'
            for rule in group["rules"]:
                asks_of(rule["expr"], rule["alert"])
                same(rule["expr"].count("{" + job), rule["expr"].count("{"), f"{rule['alert']}: series of others")
                holds(rule["labels"]["severity"] and rule["annotations"]["summary"], rule["alert"])
            same(len({r["alert"] for r in group["rules"]}), len(group["rules"]), "names of alerts")
            # What one account of a tenant sends must not hide that another's messages wait.
            (alone,) = [r["expr"] for r in group["rules"] if 'account="tenants"' in r["expr"]]
            limit = values["prometheusRule"]["thresholds"]["oldestDueOfTenantsSeconds"]
            holds(alone.endswith(f"> {limit}") and "unless" not in alone, "the age of tenants' messages alone")
            of_replica = [r["expr"] for r in group["rules"] if r["alert"] == "AnklangReplicaNotUsed"]
            same(len(of_replica), int(values["database"].get("replicaSecretKey", "") != ""), "alert of a replica")
            for expression in of_replica:
                lag = merged(self.settings, values["config"])["database"]["replica_max_lag_seconds"]
                holds(f") > {lag}\n" in expression, "how far behind a replica may be")
        boards = [d for d in kinds["ConfigMap"] if d["metadata"]["labels"].get("grafana_dashboard") == "1"]
        files = list((CHART / "dashboards").glob("*.json"))
        same(len(boards), len(files) if values["dashboards"]["enabled"] else 0, "dashboards")
        for board in boards:
            for text in board["data"].values():
                for panel in json.loads(text)["panels"]:
                    for target in panel.get("targets", []):
                        asks_of(target["expr"], panel["title"])

    def look_at_references(self, kinds):
        """Whatever names or selects something, names and selects it."""
        deployments = {d["metadata"]["name"]: d for d in kinds["Deployment"]}
        labels = {n: d["spec"]["template"]["metadata"]["labels"] for n, d in deployments.items()}

        def selected(selector):
            return {n for n, have in labels.items() if selector.items() <= have.items()}

        for name, deployment in deployments.items():
            same(selected(deployment["spec"]["selector"]["matchLabels"]), {name}, f"selector of {name}")
            for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
                same(selected(constraint["labelSelector"]["matchLabels"]), {name}, f"what {name} spreads")
        for budget in kinds.get("PodDisruptionBudget", []):
            name = budget["metadata"]["name"]
            same(selected(budget["spec"]["selector"]["matchLabels"]), {name}, f"budget {name}")
        api = {n for n, have in labels.items() if have.get("anklang/api")}
        services = {}
        for service in kinds["Service"]:
            services[service["metadata"]["name"]] = [p["port"] for p in service["spec"]["ports"]]
            of_metrics = service["spec"]["ports"][0]["name"] == "metrics"
            same(selected(service["spec"]["selector"]), set(labels) if of_metrics else api, "pods of a Service")
        for scaler in kinds.get("HorizontalPodAutoscaler", []):
            target = deployments[scaler["spec"]["scaleTargetRef"]["name"]]
            holds("replicas" not in target["spec"], "an upgrade would undo the autoscaler")
            holds(scaler["spec"]["metrics"], "metrics of an autoscaler")
        for route in kinds.get("GRPCRoute", []) + kinds.get("HTTPRoute", []):
            for rule in route["spec"]["rules"]:
                for backend in rule["backendRefs"]:
                    holds(backend["port"] in services[backend["name"]], "backend of a route")
        for ingress in kinds.get("Ingress", []):
            for path in ingress["spec"]["rules"][0]["http"]["paths"]:
                holds(path["backend"]["service"]["name"] in services, "backend of an Ingress")
        maps = {d["metadata"]["name"] for d in kinds["ConfigMap"]}
        claims = {d["metadata"]["name"] for d in kinds.get("PersistentVolumeClaim", [])}
        for deployment in deployments.values():
            for volume in deployment["spec"]["template"]["spec"]["volumes"]:
                if "configMap" in volume:
                    holds(volume["configMap"]["name"] in maps, "ConfigMap")
                if claim := volume.get("persistentVolumeClaim"):
                    holds(claim["claimName"] in claims | {"share", "plugins"}, f"claim {claim}")


class UniqueKeys(FAST):
    """A key that is there twice is a fault of a template."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        same(sorted(keys), sorted(set(keys)), f"keys at line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def volumes(document):
    spec = document.get("spec") or {}
    return spec.get("template", {}).get("spec", {}).get("volumes", [])


def exposed():
    """The series of helm/metrics.txt: those of histograms have a suffix."""
    lines = (ROOT / "helm/metrics.txt").read_text().splitlines()
    for name, kind in (line.split() for line in lines if not line.startswith("#")):
        yield from [f"{name}_{part}" for part in ["bucket", "sum", "count"]] if kind == "histogram" else [name]


# And what Prometheus says itself of whom it scrapes.
EXPOSED = {*exposed(), "up"}


def asks_of(expression, where):
    """An expression of PromQL asks of metrics that there are, and is balanced."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    for one, other in ["()", "{}", "[]"]:
        same(bare.count(one), bare.count(other), f"{where}: {one}{other}")
    names = set(re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{", bare))
    holds(names, f"{where} asks for nothing")
    same(names - EXPOSED, set(), f"{where}: names that are not in helm/metrics.txt")


def holds(condition, what):
    if not condition:
        raise AssertionError(what)


def same(left, right, what):
    if left != right:
        raise AssertionError(f"{what}: {left!r} is not {right!r}")


def leaves(values, path=""):
    for key, value in values.items():
        at = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value and at not in ("config", "defaults.resources", "migrations.resources"):
            yield from leaves(value, at)
        else:
            yield at


def maps(values, path=()):
    yield path
    for key, value in values.items():
        if isinstance(value, dict) and key not in ("config", "resources", "affinity"):
            yield from maps(value, (*path, key))


def described(chart):
    """Schema, README, program and chart speak of the same."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.validate(merged(chart.defaults, LEAST), schema)
    for path in maps(chart.defaults):
        strange = {"strange": 1}
        for key in reversed(path):
            strange = {key: strange}
        strange = merged(chart.defaults, LEAST, strange)
        valid = jsonschema.Draft7Validator(schema).is_valid(strange)
        holds(not valid, f"the schema lets unknown keys in at {'.'.join(path)}")
    same(set(schema["properties"]) - {"global"}, set(chart.defaults), "keys of the schema and of values.yaml")
    sections = {key for key, value in chart.settings.items() if isinstance(value, dict)}
    same(set(schema["properties"]["config"]["properties"]), sections, "sections of config and of anklang.toml")
    for section, of in schema["properties"]["config"]["properties"].items():
        for key in of.get("properties", {}):
            holds(key in chart.settings[section], f"config.{section}.{key} is in no anklang.toml")
    readme = (CHART / "README.md").read_text()
    queries = re.findall(r"metricsQuery: '(.*)'", readme)
    holds(queries, "rules for an adapter in README.md")
    for query in queries:
        asks_of(query, "README.md")
    told = set(re.findall(r"^\| `([^`]+)`", readme, re.M))
    same(told, set(leaves(chart.defaults)), "values in the table of README.md")
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    same(about["appVersion"], cargo["workspace"]["package"]["version"], "appVersion and Cargo.toml")
    dockerfile = (ROOT / "Dockerfile").read_text()
    plugins = {p.parent.name for p in (ROOT / "plugins").glob("*/Cargo.toml")}
    for plugin in plugins - {"abi", "proto", "sdk", "testing"}:
        holds(f"-p anklang-plugin-{plugin} " in dockerfile, f"the plugin {plugin} is not in the image")
        holds(f"libanklang_{plugin}.so" in dockerfile, f"the plugin {plugin} is not in the image")
    holds("anklang-plugin-testing" not in dockerfile, "the plugin for tests is in the image")


def example(chart):
    """The smallest values of production in README.md are enough, without what is not for production."""
    readme = (CHART / "README.md").read_text()
    told = re.search(r"^A smallest `values.yaml` of production:\n\n```yaml\n(.*?)^```", readme, re.M | re.S)
    values = yaml.safe_load(told[1])
    chart.render(values)
    holds(values["tls"]["secretName"] and values["config"]["auth"]["mode"] == "token", "README.md: production")


def notes(chart):
    """What `helm install` says; `helm template` leaves it out, so it goes into a ConfigMap here."""
    with tempfile.TemporaryDirectory() as folder:
        copied = pathlib.Path(folder) / "anklang"
        shutil.copytree(CHART, copied)
        (copied / "templates/NOTES.txt").rename(copied / "notes.txt")
        holder = """kind: ConfigMap
metadata:
  name: notes
data:
  notes: |
    {{- tpl (.Files.Get "notes.txt") . | nindent 4 }}
"""
        (copied / "templates/notes.yaml").write_text(holder)
        for values, words in [
            (LEAST, ["outreach-anklang-headless.sales:50051", "anklang/client", "sealing.secretName", "-api --", "tls.plainText"]),
            (merged(LEAST, {"tls": {"secretName": "tls"}}), ["They speak TLS."]),
            (merged(LEAST, {"metrics": {"enabled": True}}), ["Pods of all namespaces", "metrics.from"]),
            (merged(LEAST, {"mode": "combined", "service": {"port": 80}}), [".sales:80 ", "-combined --"]),
            (LEAST, ["Callers are not authenticated", "config.auth.anybody"]),
            (merged(LEAST, {"migrations": {"secretName": "owner"}}), ["granted the roles anklang_app"]),
        ]:
            ran = chart.run(
                ["template", "outreach", "--namespace", "sales", "--kube-version", "1.34"],
                values,
                "--show-only",
                "templates/notes.yaml",
                chart=copied,
            )
            holds(ran.returncode == 0, ran.stderr)
            told = yaml.safe_load(ran.stdout)["data"]["notes"]
            for word in words:
                holds(word in told, f"{word} in NOTES.txt: {told}")


def main():
    helm = sys.argv[1]
    crds = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    chart = Chart(helm, crds)
    described(chart)
    example(chart)
    notes(chart)
    linted = chart.run(["lint"], LEAST, "--strict")
    holds(linted.returncode == 0, linted.stdout + linted.stderr)
    sets = [merged(LEAST, *row) for row in pairs(list(AXES.values()))]
    faults = []

    def good(values):
        try:
            chart.render(values)
        except Exception as error:  # each fault counts, whatever it is
            faults.append(f"{error}\n  with {json.dumps(values)}")

    def bad(case):
        values, word = case
        ran = chart.run(["template", "outreach"], merged(LEAST, values), "--kube-version", "1.34")
        if ran.returncode == 0:
            faults.append(f"not refused: {json.dumps(values)}")
        elif word not in ran.stderr:
            faults.append(f"refused, but not because of {word}: {ran.stderr.strip()}")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(good, sets))
        list(pool.map(bad, WRONG))

    def checksum(values):
        rendered = chart.render(merged(LEAST, values))
        one = next(d for d in rendered if d["kind"] == "Deployment")
        return one["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    same(checksum({}), checksum({"worker": {"replicas": 9}}), "pods that nothing has changed for")
    holds(checksum({}) != checksum({"config": {"log": {"filter": "debug"}}}), "pods go on with old settings")
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        sys.exit(f"{len(faults)} faults")
    without = "" if chart.crds else "; routes and monitors were not checked: their definitions are not there"
    print(f"{len(sets)} combinations rendered and checked against Kubernetes {', '.join(VERSIONS)}")
    print(f"{len(WRONG)} wrong values refused{without}")


if __name__ == "__main__":
    main()

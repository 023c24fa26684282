"""A Kubernetes of its own, on loopback and in a folder: etcd, the API server and the controllers, but no nodes.

What a node would do to Pods is done by `Node`, without running anything.
"""

import base64
import contextlib
import json
import pathlib
import secrets
import socket
import subprocess
import sys
import threading
import time
import traceback

import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
# So long a program may take to answer; the machine may have other work.
PATIENCE = 60


class Refused(Exception):
    """The API server's answer, when it is not what was wanted."""

    def __init__(self, what, status):
        super().__init__(f"{what}: {status.get('code')} {status.get('message', status)}")
        self.code = status.get("code")


class Cluster:
    """The three programs, and calls of the API. `warnings` are those of the API server, with what they are about."""

    def __init__(self, program, folder):
        self.program, self.folder = program, pathlib.Path(folder)
        self.processes, self.kinds, self.warnings = [], {}, []
        self.session = requests.Session()
        # No proxy, and no authorities of the environment.
        self.session.trust_env = False
        self.kubeconfig = self.folder / "kubeconfig"

    def __enter__(self):
        try:
            self.start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process, log in reversed(self.processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()
            log.close()

    def start_all(self):
        clients, peers, port = free_ports(3)
        etcd, self.url = f"http://127.0.0.1:{clients}", f"https://127.0.0.1:{port}"
        peer = f"http://127.0.0.1:{peers}"
        token, key = secrets.token_hex(16), self.folder / "accounts.key"
        (self.folder / "tokens.csv").write_text(f"{token},operator,operator,system:masters\n")
        key.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )
        self.start(
            "etcd",
            f"--data-dir={self.folder}/etcd",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )
        self.answers(f"{etcd}/health", {})
        self.start(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={self.folder}/certificates",
            "--service-cluster-ip-range=10.96.0.0/16",
            # Its address on loopback is none for pods.
            "--endpoint-reconciler-type=none",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={key}",
            f"--service-account-key-file={key}",
        )
        self.session.headers["Authorization"] = f"Bearer {token}"
        # It signs its certificate itself, before it listens.
        authority = self.folder / "certificates/apiserver.crt"
        self.answers(f"{self.url}/readyz", {"verify": authority})
        self.session.verify = str(authority)
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "own",
                    "clusters": [
                        {"name": "own", "cluster": {"server": self.url, "certificate-authority": str(authority)}}
                    ],
                    "users": [{"name": "own", "user": {"token": token}}],
                    "contexts": [{"name": "own", "context": {"cluster": "own", "user": "own"}}],
                }
            )
        )
        self.kubeconfig.chmod(0o600)
        self.start(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            "--secure-port=0",
            f"--cert-dir={self.folder}/certificates",
            f"--flex-volume-plugin-dir={self.folder}/volumes",
            "--leader-elect=false",
            # Nobody sends signs of life for a Node.
            "--controllers=*,-node-lifecycle-controller",
            f"--service-account-private-key-file={key}",
            "--horizontal-pod-autoscaler-sync-period=1s",
        )

    def start(self, name, *arguments):
        log = (self.folder / f"{name}.log").open("w")
        process = subprocess.Popen(
            [self.program, name, *arguments],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.processes.append((process, log))

    def answers(self, url, options):
        def healthy():
            self.running()
            with contextlib.suppress(requests.ConnectionError, OSError):
                return self.session.get(url, timeout=5, **options).ok

        wait(healthy, url)

    def running(self):
        for process, log in self.processes:
            if process.poll() is not None:
                tail = pathlib.Path(log.name).read_text()[-4000:]
                raise AssertionError(f"{process.args[1]} has ended:\n{tail}")

    def call(self, method, path, body=None, kind="application/json", **query):
        """Calls the API; what it warns of is kept."""
        data = None if body is None else json.dumps(body)
        answer = self.session.request(
            method, self.url + path, params=query, data=data, headers={"Content-Type": kind}, timeout=60
        )
        about = f"{method} {path}"
        if warning := answer.headers.get("Warning"):
            self.warnings.append(f"{about}: {warning}")
        if not answer.ok:
            try:
                status = answer.json()
            except ValueError:
                status = {"code": answer.status_code, "message": answer.text}
            raise Refused(about, status)
        return answer.json()

    def served(self):
        """Each kind that there is: (apiVersion, kind) to what discovery says of it."""
        if not self.kinds:
            kinds, groups = {}, self.call("GET", "/apis")["groups"]
            versions = [("v1", "/api/v1")]
            versions += [(v["groupVersion"], f"/apis/{v['groupVersion']}") for g in groups for v in g["versions"]]
            for version, path in versions:
                for resource in self.call("GET", path)["resources"]:
                    if "/" not in resource["name"]:
                        kinds[(version, resource["kind"])] = {**resource, "path": path}
            self.kinds = kinds
        return self.kinds

    def path(self, api, kind, namespace, name=""):
        resource = self.served()[(api, kind)]
        place = f"/namespaces/{namespace}" if resource["namespaced"] else ""
        return f"{resource['path']}{place}/{resource['name']}" + (f"/{name}" if name else "")

    def apply(self, document, namespace="", **query):
        """Server-side apply, with every field checked."""
        path = self.path(document["apiVersion"], document["kind"], namespace, document["metadata"]["name"])
        return self.call(
            "PATCH", path, document, APPLY, fieldManager="tests", fieldValidation="Strict", force="true", **query
        )

    def get(self, kind, namespace, name="", api="v1", **query):
        """One object, or all of a kind; None when it is not there."""
        try:
            found = self.call("GET", self.path(api, kind, namespace, name), **query)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise
        return found if name else found["items"]

    def delete(self, kind, namespace, name, api="v1"):
        self.call("DELETE", self.path(api, kind, namespace, name), gracePeriodSeconds=0)

    def everything(self, namespace):
        """Names of all objects in a namespace, and of those in none, except what comes by itself."""
        names = set()
        for (api, kind), resource in self.served().items():
            by_itself = kind in ("Event", "Lease", "PriorityLevelConfiguration", "FlowSchema", "APIService")
            if "list" in resource["verbs"] and "create" in resource["verbs"] and not by_itself:
                for item in self.get(kind, namespace, api=api):
                    names.add(f"{kind} {item['metadata']['name']}")
        return names


class Node:
    """Does with the Pods of a namespace what a kubelet would, as far as the API sees it.

    A Pod starts when all that it names is there. Those of commands end at once: well, unless they are to fail.
    """

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace, self.name = cluster, namespace, f"node-of-{namespace}"
        self.failing, self.missing, self.fault = False, {}, None
        # What commands ended, and how.
        self.ended = []
        self.addresses = (f"10.244.{i // 250}.{i % 250 + 1}" for i in range(60000))
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def __enter__(self):
        self.cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}})
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        self.cluster.delete("Node", "", self.name)

    def work(self):
        while not self.stopped.wait(0.2):
            try:
                for pod in self.cluster.get("Pod", self.namespace):
                    self.look_after(pod)
            except Refused as refused:
                # Somebody else was faster.
                if refused.code not in (404, 409):
                    self.fault = refused
            except Exception as fault:  # each counts; the main thread tells
                traceback.print_exc()
                self.fault = fault

    def look_after(self, pod):
        metadata, path = pod["metadata"], self.cluster.path("v1", "Pod", self.namespace, pod["metadata"]["name"])
        if metadata.get("deletionTimestamp"):
            self.cluster.call("DELETE", path, gracePeriodSeconds=0)
            return
        if pod["status"]["phase"] != "Pending":
            return
        missing = [thing for thing in named(pod) if not self.there(*thing)]
        self.missing[metadata["name"]] = missing
        if missing:
            return
        if "nodeName" not in pod["spec"]:
            target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"]}, "target": target}
            self.cluster.call("POST", f"{path}/binding", binding)
        ends = pod["spec"]["restartPolicy"] == "Never"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        phase = ("Failed" if self.failing else "Succeeded") if ends else "Running"
        address = next(self.addresses)
        ready = str(not ends)
        conditions = [
            {"type": kind, "status": ready, "lastTransitionTime": now} for kind in ["Ready", "ContainersReady"]
        ]
        if ends:
            state = {"terminated": {"exitCode": int(self.failing), "startedAt": now, "finishedAt": now}}
            self.ended.append((metadata["name"], phase))
        else:
            state = {"running": {"startedAt": now}}
        containers = [
            {
                "name": container["name"],
                "ready": not ends,
                "started": not ends,
                "restartCount": 0,
                "image": container["image"],
                "imageID": container["image"],
                "state": state,
            }
            for container in pod["spec"]["containers"]
        ]
        self.cluster.call(
            "PATCH",
            f"{path}/status",
            {
                "status": {
                    "phase": phase,
                    "startTime": now,
                    "podIP": address,
                    "podIPs": [{"ip": address}],
                    "conditions": conditions,
                    "containerStatuses": containers,
                }
            },
            MERGE,
        )

    def there(self, kind, name, key):
        found = self.cluster.get(kind, self.namespace, name)
        if not found:
            return False
        if kind == "PersistentVolumeClaim":
            return found["status"]["phase"] == "Bound"
        return not key or key in found.get("data", {})


def named(pod):
    """What a Pod cannot start without: kind, name and key."""
    for volume in pod["spec"].get("volumes", []):
        if secret := volume.get("secret"):
            yield "Secret", secret["secretName"], ""
        if config := volume.get("configMap"):
            yield "ConfigMap", config["name"], ""
        if claim := volume.get("persistentVolumeClaim"):
            yield "PersistentVolumeClaim", claim["claimName"], ""
    for container in pod["spec"]["containers"]:
        for variable in container.get("env", []):
            if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", secret["name"], secret["key"]
        for source in container.get("envFrom", []):
            if secret := source.get("secretRef"):
                yield "Secret", secret["name"], ""


def secret(name, keys):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "data": {key: base64.b64encode(b"of the tests").decode() for key in keys},
    }


def free_ports(count):
    with contextlib.ExitStack() as open_:
        sockets = [open_.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait(condition, what, seconds=PATIENCE):
    """Until something holds that need not do so at once."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"in {seconds} seconds not: {what}")
        time.sleep(0.2)
    return found


def say(what):
    print(what, file=sys.stdout, flush=True)

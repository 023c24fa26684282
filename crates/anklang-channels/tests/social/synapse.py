"""Runs a Matrix homeserver on loopback, in a folder of its own, until standard input ends.

Prints its port when it answers. It keeps nothing: with the folder all of it is gone.
"""

import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import yaml

SERVER = "anklang.test"
UNLIMITED = {"per_second": 100000, "burst_count": 100000}


def main():
    with tempfile.TemporaryDirectory(prefix="anklang-synapse-") as folder:
        folder = pathlib.Path(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "homeserver.yaml").write_text(yaml.dump(config(folder, port)))
        command = [sys.executable, "-m", "synapse.app.homeserver", "-c", "homeserver.yaml"]
        subprocess.run([*command, "--generate-keys"], cwd=folder, check=True, stdout=sys.stderr)
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                wait(server, port, folder / "log")
                print(port, flush=True)
                sys.stdin.read()
            finally:
                server.terminate()
                server.wait()


def config(folder, port):
    return {
        "server_name": SERVER,
        "public_baseurl": f"http://127.0.0.1:{port}/",
        "listeners": [
            {
                "port": port,
                "type": "http",
                "bind_addresses": ["127.0.0.1"],
                "resources": [{"names": ["client"]}],
            }
        ],
        "database": {"name": "sqlite3", "args": {"database": str(folder / "homeserver.db")}},
        "signing_key_path": str(folder / "signing.key"),
        "media_store_path": str(folder / "media"),
        "macaroon_secret_key": "anklang",
        "caches": {"sync_response_cache_duration": "0s"},
        "report_stats": False,
        "trusted_key_servers": [],
        "enable_registration": True,
        "enable_registration_without_verification": True,
        "rc_message": UNLIMITED,
        "rc_registration": UNLIMITED,
        "rc_joins": {"local": UNLIMITED, "remote": UNLIMITED},
        "rc_invites": {"per_room": UNLIMITED, "per_user": UNLIMITED, "per_issuer": UNLIMITED},
        "rc_room_creation": UNLIMITED,
    }


def wait(server, port, log):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_matrix/client/versions", timeout=5)
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(log.read_text())


main()

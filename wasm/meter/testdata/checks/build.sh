#!/bin/sh
# Assembles the modules with wabt's wat2wasm. Run it in this folder.
set -eu
for f in *.wat; do wat2wasm --enable-tail-call --debug-names -o "${f%.wat}.wasm" "$f"; done

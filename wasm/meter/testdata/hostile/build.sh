#!/bin/sh
# Assembles the modules with wabt's wat2wasm. Run it in this folder.
set -eu
for f in *.wat ../opcodes.wat; do wat2wasm --debug-names -o "${f%.wat}.wasm" "$f"; done

#!/bin/sh
# build.sh assembles the modules with wat2wasm of wabt 1.0.32 and writes their
# hashes. The results are committed, so that tests need no assembler.
set -eu
cd "$(dirname "$0")"
for f in *.wat; do wat2wasm --debug-names "$f" -o "${f%.wat}.wasm"; done
(cd ../../../examples/src/park && wat2wasm park.wat -o park.wasm && sha256sum park.wasm >SHA256SUMS)
cp ../../../examples/src/park/park.wasm park.wasm
sha256sum *.wasm >SHA256SUMS

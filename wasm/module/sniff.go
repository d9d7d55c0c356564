package module

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

// sniffBytes is how much of a file Header needs to see.
const sniffBytes = 512

const howToBuild = "build one with GOOS=wasip1 GOARCH=wasm go build, cargo build --target wasm32-wasip1, or clang --target=wasm32-wasip1"

// Header judges the first bytes of a file of that size: the error, which wraps
// wasm.ErrInvalidModule, says what it is if it is no core module. Give at
// least 512 bytes if there are as many.
func Header(head []byte, size int64) error {
	if size == 0 {
		return invalid("the file is empty: %s", howToBuild)
	}
	magic := []byte("\x00asm")
	if len(head) < 8 {
		if bytes.HasPrefix(magic, head[:min(len(head), 4)]) || bytes.HasPrefix(head, magic) {
			return truncated(size, "within its header")
		}
		return invalid("this is %s, not WebAssembly: %s", Identify(head), howToBuild)
	}
	if !bytes.HasPrefix(head, magic) {
		return invalid("this is %s, not WebAssembly: %s", Identify(head), howToBuild)
	}
	version, layer := binary.LittleEndian.Uint16(head[4:]), binary.LittleEndian.Uint16(head[6:])
	switch {
	case layer == 1:
		return invalid("this is a WebAssembly component (WASI 0.2 or later); Weft runs core modules with WASI preview 1: %s, without componentizing it", howToBuild)
	case layer != 0:
		return invalid("this is WebAssembly of the unknown layer %d; Weft runs core modules of version 1: %s", layer, howToBuild)
	case version != 1:
		return invalid("this is WebAssembly of version %d; Weft runs version 1: %s", version, howToBuild)
	}
	return nil
}

// Identify names what the first bytes of a file are: "an ELF executable (a
// program for this machine)", "text".
func Identify(head []byte) string {
	for _, m := range [...]struct{ magic, name string }{
		{"\x7fELF", "an ELF executable (a program for Linux itself)"},
		{"MZ", "a Windows executable"},
		{"\xcf\xfa\xed\xfe", "a macOS executable"},
		{"\xca\xfe\xba\xbe", "a macOS universal executable or a Java class"},
		{"\x1f\x8b", "gzip-compressed data (unpack it first)"},
		{"\x28\xb5\x2f\xfd", "zstd-compressed data (unpack it first)"},
		{"BZh", "bzip2-compressed data (unpack it first)"},
		{"\xfd7zXZ", "xz-compressed data (unpack it first)"},
		{"PK\x03\x04", "a zip archive (unpack it first)"},
		{"!<arch>\n", "a static library or object archive"},
		{"%PDF", "a PDF document"},
		{"#!", "a script"},
		{"BC\xc0\xde", "LLVM bitcode"},
	} {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return m.name
		}
	}
	if len(head) > 262 && string(head[257:262]) == "ustar" {
		return "a tar archive (unpack it first)"
	}
	return identifyText(head)
}

func identifyText(head []byte) string {
	// A rune may be cut at the end of what was read.
	for n := 0; n < utf8.UTFMax-1 && len(head) > 0 && !utf8.Valid(head); n++ {
		head = head[:len(head)-1]
	}
	if len(head) == 0 || !utf8.Valid(head) || bytes.IndexByte(head, 0) >= 0 {
		return "data of an unknown format"
	}
	text := strings.TrimSpace(string(head))
	switch lower := strings.ToLower(text); {
	case strings.HasPrefix(text, "(module"), strings.HasPrefix(text, ";;"), strings.HasPrefix(text, "(component"):
		return "WebAssembly in text form (assemble it with wat2wasm first)"
	case strings.HasPrefix(lower, "<!doctype html"), strings.HasPrefix(lower, "<html"):
		return "a web page"
	case strings.HasPrefix(text, "version https://git-lfs"):
		return "a Git LFS pointer (run git lfs pull)"
	case strings.HasPrefix(text, "{"), strings.HasPrefix(text, "["):
		return "text that looks like JSON"
	}
	return "text"
}

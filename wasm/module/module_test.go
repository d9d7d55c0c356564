package module_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/wasm"
	"github.com/weftrun/weft/wasm/module"
)

const header = "\x00asm\x01\x00\x00\x00"

func TestInspect(t *testing.T) {
	b := header +
		"\x02\x0b\x01\x03env\x03foo\x00\x00" + // import env.foo
		"\x05\x04\x01\x01\x02\x03" + // memory 2 3
		"\x07\x0a\x01\x06_start\x00\x00" +
		"\x08\x01\x00"
	got, err := module.Inspect(strings.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	want := &module.Info{
		Imports:      []module.Import{{Module: "env", Name: "foo"}},
		Exports:      map[string]module.Kind{"_start": module.Func},
		StartSection: true,
		HasMemory:    true,
		MinMemory:    2 * module.PageSize,
		MaxMemory:    3 * module.PageSize,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !got.Command() || got.Reactor() {
		t.Error("want a command")
	}
	for n := range len(b) {
		_, err := module.Inspect(strings.NewReader(b[:n]), int64(n))
		if err != nil && !errors.Is(err, wasm.ErrInvalidModule) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		if n < 8 && err == nil {
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"empty":     {"", "the file is empty"},
		"elf":       {"\x7fELF\x02\x01\x01\x00\x00", "an ELF executable"},
		"script":    {"#!/bin/sh\necho hello\n", "a script"},
		"gzip":      {"\x1f\x8b\x08\x00\x00\x00\x00\x00", "gzip-compressed"},
		"text":      {"hello, world", "this is text"},
		"short":     {"hi", "this is text"},
		"wat":       {"(module (memory 1))", "in text form"},
		"html":      {"<!DOCTYPE html><title>404", "a web page"},
		"binary":    {"\x01\x02\x00\xff\xfe\x80\x80\x80\x80\x80", "unknown format"},
		"component": {"\x00asm\x0d\x00\x01\x00", "this is a WebAssembly component"},
		"version":   {"\x00asm\x02\x00\x00\x00", "version 2"},
		"layer":     {"\x00asm\x01\x00\x07\x00", "layer 7"},
		"cut header": {
			"\x00asm\x01", "cut off after 5 bytes, within its header"},
		"cut section": {
			header + "\x01\x20abc", "cut off after 13 bytes, in its type section"},
		"huge table":   {header + "\x04\x08\x01\x70\x00\xff\xff\xff\xff\x0f", "a table has 4294967295 entries"},
		"bad import":   {header + "\x02\x05\x01\x01a\x01b", "import section is damaged"},
		"two memories": {header + "\x05\x05\x02\x00\x01\x00\x01", "2 memories"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := module.Inspect(strings.NewReader(tc.content), int64(len(tc.content)))
			if !errors.Is(err, wasm.ErrInvalidModule) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func FuzzInspect(f *testing.F) {
	f.Add([]byte(header))
	f.Add([]byte(header + "\x02\x0b\x01\x03env\x03foo\x00\x00\x05\x04\x01\x01\x02\x03"))
	f.Add([]byte("\x00asm\x0d\x00\x01\x00"))
	f.Add([]byte(header + "\x04\x08\x01\x70\x00\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := module.Inspect(bytes.NewReader(b), int64(len(b)))
		if (info == nil) == (err == nil) {
			t.Fatalf("info %v with error %v", info, err)
		}
		if err != nil && !errors.Is(err, wasm.ErrInvalidModule) {
			t.Fatalf("foreign error: %v", err)
		}
		if err == nil && (info.MinMemory < 0 || info.MinMemory > 4<<30) {
			t.Fatalf("memory of %d bytes", info.MinMemory)
		}
		_ = module.Identify(b)
	})
}

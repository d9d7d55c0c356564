package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/weftrun/weft/bus"
	"sigs.k8s.io/yaml"
)

func TestDocumentsAreCurrent(t *testing.T) {
	for name, want := range documents() {
		got, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("docs/%s is not current, run go generate ./bus:\n%s", name, diff)
		}
	}
}

func TestAsyncAPIIsYAML(t *testing.T) {
	var got struct {
		Channels   map[string]any `json:"channels"`
		Components struct {
			Messages map[string]any `json:"messages"`
		} `json:"components"`
	}
	if err := yaml.Unmarshal(asyncAPI(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Channels) != len(bus.Subjects()) {
		t.Errorf("%d channels for %d subjects", len(got.Channels), len(bus.Subjects()))
	}
	named := map[string]bool{}
	for _, s := range bus.Subjects() {
		for _, payload := range []string{s.Payload, s.Reply} {
			if payload != "" && got.Components.Messages[payload] == nil {
				t.Errorf("subject %s: payload %s is not described", s.Name, payload)
			}
			named[payload] = true
		}
	}
	for _, p := range bus.Payloads() {
		if !named[p.Name] {
			t.Errorf("payload %s is on no subject", p.Name)
		}
	}
}

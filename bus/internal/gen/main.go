// Command gen writes docs/bus.md and docs/asyncapi.yaml from the subject tree.
// It must not say anything that is not in package bus.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/weftrun/weft/bus"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FOLDER")
		os.Exit(2)
	}
	for name, content := range documents() {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), content, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// documents returns the files' contents by name.
func documents() map[string][]byte {
	return map[string][]byte{"bus.md": markdown(), "asyncapi.yaml": asyncAPI()}
}

func markdown() []byte {
	var b bytes.Buffer
	printf(&b, "# Subjects\n\n<!-- Generated from bus/tree.go and bus/payload.go by `go generate ./bus`. Do not edit. -->\n\n")
	printf(&b, "What travels over NATS, and who may do what. A core may do everything; the other roles only what is\n"+
		"listed. Names in subjects are percent-encoded where NATS gives a character a meaning (`.`, `*`, `>`,\n"+
		"white space and `%%` itself); the core API group is `%s`, no namespace is `%s`.\n\n", bus.CoreGroup, bus.NoNamespace)
	printf(&b, "| Subject | From | To | Payload | |\n|---|---|---|---|---|\n")
	for _, s := range bus.Subjects() {
		payload := ""
		if s.Payload != "" {
			payload = fmt.Sprintf("[%s](#%s)", s.Payload, strings.ToLower(s.Payload))
		}
		printf(&b, "| `%s` | %s | %s | %s | %s |\n", s.Pattern, s.From, s.To, payload, s.Summary)
	}
	printf(&b, "\n## Permissions\n\n`%s` is the holder's own name, encoded.\n\n| Role | May publish | May subscribe |\n|---|---|---|\n", "<name>")
	for _, role := range bus.Roles {
		p := bus.PermissionsTemplate(role, "<name>")
		publish := codes(p.Publish)
		if p.Respond {
			publish += fmt.Sprintf("<br>the reply subject of a message received, for %s", bus.RespondFor)
		}
		printf(&b, "| %s | %s | %s |\n", role, publish, codes(p.Subscribe))
	}
	printf(&b, "\nNATS does not check reply subjects. So whoever answers a request also checks that the reply lies in\n"+
		"the inbox of the identity that the request's subject names, `_INBOX.<role>.<name>.`, and ignores the\n"+
		"request otherwise; and who receives a reply checks the subject it came on.\n\n## Payloads\n")
	for _, p := range bus.Payloads() {
		printf(&b, "\n### %s\n\n%s `%s`\n", p.Name, p.Summary, p.ContentType)
		if len(p.Fields) > 0 {
			printf(&b, "\n| Field | Type | |\n|---|---|---|\n")
		}
		for _, f := range p.Fields {
			kind := f.Type
			if f.Optional {
				kind += ", optional"
			}
			printf(&b, "| `%s` | %s | %s |\n", f.Name, kind, f.Summary)
		}
	}
	return b.Bytes()
}

func codes(patterns []string) string {
	return "`" + strings.Join(patterns, "`<br>`") + "`"
}

var parameter = regexp.MustCompile(`<([a-z]+)>`)

func asyncAPI() []byte {
	var b bytes.Buffer
	printf(&b, "# Generated from bus/tree.go and bus/payload.go by go generate ./bus. Do not edit.\n")
	printf(&b, "asyncapi: 3.0.0\ninfo:\n  title: Weft\n  version: v1\n  description: What travels over NATS.\ndefaultContentType: application/json\nchannels:\n")
	for _, s := range bus.Subjects() {
		printf(&b, "  %s:\n    address: %s\n    description: %s\n", s.Name, strconv.Quote(parameter.ReplaceAllString(s.Pattern, "{$1}")), strconv.Quote(s.Summary))
		if names := parameter.FindAllStringSubmatch(s.Pattern, -1); len(names) > 0 {
			printf(&b, "    parameters:\n")
			for _, n := range names {
				printf(&b, "      %s: {}\n", n[1])
			}
		}
		if s.Payload != "" {
			printf(&b, "    messages:\n      %s:\n        $ref: '#/components/messages/%s'\n", s.Payload, s.Payload)
		}
	}
	printf(&b, "operations:\n")
	for _, s := range bus.Subjects() {
		action := "send" // as seen by a core
		if s.From != "core" {
			action = "receive"
		}
		printf(&b, "  %s:\n    action: %s\n    channel:\n      $ref: '#/channels/%s'\n", s.Name, action, s.Name)
	}
	printf(&b, "components:\n  messages:\n")
	for _, p := range bus.Payloads() {
		printf(&b, "    %s:\n      contentType: %s\n      summary: %s\n", p.Name, p.ContentType, strconv.Quote(p.Summary))
		if len(p.Fields) > 0 {
			printf(&b, "      payload:\n        $ref: '#/components/schemas/%s'\n", p.Name)
		}
	}
	printf(&b, "  schemas:\n")
	for _, p := range bus.Payloads() {
		schema(&b, p)
	}
	return b.Bytes()
}

func schema(b io.Writer, p bus.Payload) {
	if len(p.Fields) == 0 {
		return
	}
	var required []string
	printf(b, "    %s:\n      type: object\n      properties:\n", p.Name)
	for _, f := range p.Fields {
		kind, format := f.Type, ""
		switch f.Type {
		case "time":
			kind, format = "string", "date-time"
		case "bytes":
			kind, format = "string", "byte"
		}
		printf(b, "        %s:\n          type: %s\n", f.Name, kind)
		if format != "" {
			printf(b, "          format: %s\n", format)
		}
		printf(b, "          description: %s\n", strconv.Quote(f.Summary))
		if !f.Optional {
			required = append(required, f.Name)
		}
	}
	printf(b, "      required: [%s]\n", strings.Join(required, ", "))
}

// printf writes to memory, which cannot fail.
func printf(w io.Writer, format string, a ...any) { _, _ = fmt.Fprintf(w, format, a...) }

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
	"slices"
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
		payload := link(s.Payload)
		if s.Reply != "" {
			payload += ", answered by " + link(s.Reply)
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
		table(&b, "Header", p.Headers)
		table(&b, "Field", p.Fields)
	}
	return b.Bytes()
}

func link(payload string) string {
	if payload == "" {
		return ""
	}
	return fmt.Sprintf("[%s](#%s)", payload, strings.ToLower(payload))
}

func table(b io.Writer, what string, fields []bus.Field) {
	if len(fields) == 0 {
		return
	}
	printf(b, "\n| %s | Type | |\n|---|---|---|\n", what)
	for _, f := range fields {
		kind := f.Type
		if f.Optional {
			kind += ", optional"
		}
		printf(b, "| `%s` | %s | %s |\n", f.Name, kind, f.Summary)
	}
}

func codes(patterns []string) string {
	return "`" + strings.Join(patterns, "`<br>`") + "`"
}

var parameter = regexp.MustCompile(`<([a-z]+)>`)

func asyncAPI() []byte {
	var b bytes.Buffer
	printf(&b, "# Generated from bus/tree.go and bus/payload.go by go generate ./bus. Do not edit.\n")
	printf(&b, "asyncapi: 3.0.0\ninfo:\n  title: Weft\n  version: v1\n  description: What travels over NATS.\ndefaultContentType: application/json\n")
	channels(&b)
	operations(&b)
	components(&b)
	return b.Bytes()
}

func channels(b io.Writer) {
	printf(b, "channels:\n")
	for _, s := range bus.Subjects() {
		printf(b, "  %s:\n    address: %s\n    description: %s\n", s.Name, strconv.Quote(parameter.ReplaceAllString(s.Pattern, "{$1}")), strconv.Quote(s.Summary))
		if names := parameter.FindAllStringSubmatch(s.Pattern, -1); len(names) > 0 {
			printf(b, "    parameters:\n")
			for _, n := range names {
				printf(b, "      %s: {}\n", n[1])
			}
		}
		for i, m := range messagesOn(s) {
			if i == 0 {
				printf(b, "    messages:\n")
			}
			printf(b, "      %s:\n        $ref: '#/components/messages/%s'\n", m, m)
		}
	}
}

func operations(b io.Writer) {
	printf(b, "operations:\n")
	for _, s := range bus.Subjects() {
		action := "send" // as seen by a core
		if s.From != "core" {
			action = "receive"
		}
		printf(b, "  %s:\n    action: %s\n    channel:\n      $ref: '#/channels/%s'\n", s.Name, action, s.Name)
		if s.Reply != "" {
			printf(b, "    reply:\n      channel:\n        $ref: '#/channels/inbox'\n      messages:\n      - $ref: '#/channels/inbox/messages/%s'\n", s.Reply)
		}
	}
}

func components(b io.Writer) {
	printf(b, "components:\n  messages:\n")
	for _, p := range bus.Payloads() {
		printf(b, "    %s:\n      contentType: %s\n      summary: %s\n", p.Name, p.ContentType, strconv.Quote(p.Summary))
		if len(p.Headers) > 0 {
			printf(b, "      headers:\n        $ref: '#/components/schemas/%sHeaders'\n", p.Name)
		}
		if len(p.Fields) > 0 {
			printf(b, "      payload:\n        $ref: '#/components/schemas/%s'\n", p.Name)
		}
	}
	printf(b, "  schemas:\n")
	for _, p := range bus.Payloads() {
		schema(b, p.Name+"Headers", p.Headers)
		schema(b, p.Name, p.Fields)
	}
}

// messagesOn returns the payloads that travel on a subject: on the inbox, all
// replies.
func messagesOn(s bus.Subject) []string {
	if s.Payload == "" {
		return nil
	}
	names := []string{s.Payload}
	for _, other := range bus.Subjects() {
		if s.Name == "inbox" && other.Reply != "" && !slices.Contains(names, other.Reply) {
			names = append(names, other.Reply)
		}
	}
	return names
}

func schema(b io.Writer, name string, fields []bus.Field) {
	if len(fields) == 0 {
		return
	}
	var required []string
	printf(b, "    %s:\n      type: object\n      properties:\n", name)
	for _, f := range fields {
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

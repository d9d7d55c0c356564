package apiserver

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// form is an encoding of answers.
type form int

const (
	formJSON form = iota
	formYAML
	formProtobuf
)

const (
	typeJSON     = "application/json"
	typeYAML     = "application/yaml"
	typeProtobuf = "application/vnd.kubernetes.protobuf"
	typeAny      = "*/*"
)

// The shapes that an answer can have instead of the object itself.
const (
	asTable   = "Table"
	asPartial = "PartialObjectMetadata"
	asPartSet = "PartialObjectMetadataList"
)

func (f form) mediaType() string {
	switch f {
	case formYAML:
		return typeYAML
	case formProtobuf:
		return typeProtobuf
	}
	return typeJSON
}

// answer is what a client accepts: a form, and perhaps a shape of meta.k8s.io.
type answer struct {
	form    form
	as      string // "", asTable, asPartial or asPartSet
	version string // of meta.k8s.io: "v1" or "v1beta1"
}

// media is one range of an Accept header.
type media struct {
	kind   string
	params map[string]string
	q      float64
}

// parseAccept returns the ranges of an Accept header, the most wanted first.
func parseAccept(header string) []media {
	if strings.TrimSpace(header) == "" {
		return []media{{kind: typeAny, q: 1}}
	}
	var all []media
	for part := range strings.SplitSeq(header, ",") {
		fields := strings.Split(part, ";")
		m := media{kind: strings.ToLower(strings.TrimSpace(fields[0])), q: 1}
		for _, field := range fields[1:] {
			key, value, _ := strings.Cut(strings.TrimSpace(field), "=")
			value = strings.Trim(value, `"`)
			if key == "q" {
				if q, err := strconv.ParseFloat(value, 64); err == nil {
					m.q = q
				}
				continue
			}
			if m.params == nil {
				m.params = map[string]string{}
			}
			m.params[key] = value
		}
		if m.q > 0 {
			all = append(all, m)
		}
	}
	slices.SortStableFunc(all, func(a, b media) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		}
		return 0
	})
	return all
}

// negotiate chooses an answer's form and shape. Objects of custom kinds have
// no protobuf; shapes are those that the handler can make.
func negotiate(r *http.Request, custom bool, shapes ...string) (answer, error) {
	for _, m := range parseAccept(r.Header.Get("Accept")) {
		if a, ok := m.answer(custom, shapes); ok {
			return a, nil
		}
	}
	accepted := []string{typeJSON, typeYAML}
	if !custom {
		accepted = append(accepted, typeProtobuf)
	}
	return answer{}, errNotAcceptable(accepted...)
}

func (m media) answer(custom bool, shapes []string) (answer, bool) {
	var a answer
	switch m.kind {
	case typeJSON, typeAny, "application/*":
		a.form = formJSON
	case typeYAML:
		a.form = formYAML
	case typeProtobuf:
		a.form = formProtobuf
	default:
		return a, false
	}
	as := m.params["as"]
	if as == "" {
		return a, a.form != formProtobuf || !custom
	}
	a.as, a.version = as, m.params["v"]
	if a.version == "" {
		a.version = "v1"
	}
	known := m.params["g"] == "meta.k8s.io" && (a.version == "v1" || a.version == "v1beta1")
	fits := slices.Contains(shapes, as) && (as != asTable || a.form != formProtobuf)
	return a, known && fits
}

// Package openapi describes the kinds of a cluster as OpenAPI v3 documents,
// one for each group and version, made when asked for by reflection over the
// Go types of Kubernetes' API and from the schemas of custom kinds. It serves
// nothing and validates nothing.
package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/weftrun/weft/core"
)

// Documents makes documents and keeps them, compressed, until the catalogue
// of kinds changes. Its methods may be called concurrently.
type Documents struct {
	kinds   core.Kinds
	version string

	mu         sync.Mutex // guards the fields below
	generation int64
	kept       map[string]*Document // by path
}

// Document describes one group and version.
type Document struct {
	// Hash changes when the document may have.
	Hash string

	once   sync.Once
	make   func() ([]byte, error)
	packed []byte
	err    error
}

// Reference is an entry of the index.
type Reference struct {
	ServerRelativeURL string `json:"serverRelativeURL"`
}

// New returns the documents of kinds; version is the server's, since the
// built-in types change with it.
func New(kinds core.Kinds, version string) *Documents {
	return &Documents{kinds: kinds, version: version, generation: -1}
}

// Index returns where each document is, by its path ("apis/apps/v1").
func (d *Documents) Index() map[string]Reference {
	index := map[string]Reference{}
	for path, doc := range d.current() {
		index[path] = Reference{ServerRelativeURL: "/openapi/v3/" + path + "?hash=" + doc.Hash}
	}
	return index
}

// Document returns the document at a path, or nil if there is none.
func (d *Documents) Document(path string) (*Document, error) {
	return d.current()[path], nil
}

func (d *Documents) current() map[string]*Document {
	d.mu.Lock()
	defer d.mu.Unlock()
	if generation := d.kinds.Generation(); generation != d.generation {
		d.kept, d.generation = d.list(), generation
	}
	return d.kept
}

// list finds the documents and their hashes, and keeps those that are as they
// were.
func (d *Documents) list() map[string]*Document {
	byPath := map[string][]served{}
	for kind := range d.kinds.Kinds() {
		if kind.Internal {
			continue
		}
		for i := range kind.Versions {
			path := pathOf(kind.Group, kind.Versions[i].Name)
			byPath[path] = append(byPath[path], served{kind, &kind.Versions[i]})
		}
	}
	docs := make(map[string]*Document, len(byPath))
	for path, all := range byPath {
		doc := &Document{Hash: d.hash(path, all), make: func() ([]byte, error) { return build(all, d.version) }}
		if old := d.kept[path]; old != nil && old.Hash == doc.Hash {
			doc = old
		}
		docs[path] = doc
	}
	return docs
}

// served is one version of a kind.
type served struct {
	kind    *core.Kind
	version *core.Version
}

func pathOf(group, version string) string {
	if group == "" {
		return "api/" + version
	}
	return "apis/" + group + "/" + version
}

func (d *Documents) hash(path string, all []served) string {
	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, d.version, path) // a hash takes everything
	for _, k := range all {
		_, _ = fmt.Fprintln(sum, k.kind.Kind, k.kind.Resource, k.kind.Namespaced, k.kind.Verbs, k.kind.Subresources)
		if k.version.Schema != nil {
			if data, err := json.Marshal(k.version.Schema); err == nil {
				_, _ = sum.Write(data)
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// JSON returns the document's text. It is made at the first call.
func (d *Document) JSON() ([]byte, error) {
	d.once.Do(func() {
		data, err := d.make()
		if err != nil {
			d.err = err
			return
		}
		d.packed, d.err = pack(data)
	})
	if d.err != nil {
		return nil, d.err
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(d.packed))
	if err != nil {
		return nil, fmt.Errorf("unpack OpenAPI document: %w", err)
	}
	data, err := io.ReadAll(unpacked)
	if err != nil {
		return nil, fmt.Errorf("unpack OpenAPI document: %w", err)
	}
	return data, nil
}

func pack(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		return nil, fmt.Errorf("pack OpenAPI document: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("pack OpenAPI document: %w", err)
	}
	return bytes.Clone(b.Bytes()), nil
}

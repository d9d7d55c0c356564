package image

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Source is where an image lies.
type Source int

// The sources.
const (
	Relative Source = iota // a file in one of the configured folders
	Absolute               // a file of this machine
	Cluster                // a blob of the cluster's own store
)

// Reference is a parsed image reference.
type Reference struct {
	Source Source
	// Path of a file.
	Path string
	// Name and Digest ("sha256:<hex>") of a blob.
	Name, Digest string
}

// maxReference bounds a reference, in bytes.
const maxReference = 4096

const clusterHost = "cluster.local/"

var (
	namePattern   = regexp.MustCompile(`^[a-z0-9]+([._/-][a-z0-9]+)*$`)
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

const allowed = "use file:NAME.wasm, file:///PATH.wasm, or the cluster.local/NAME@sha256:... that weft push prints"

// Parse reads a reference. The error is an *Error with InvalidImageName, and
// says what to write instead.
func Parse(ref string) (Reference, error) {
	switch {
	case ref == "":
		return Reference{}, badName("the image is empty: %s", allowed)
	case len(ref) > maxReference:
		return Reference{}, badName("the image has %d bytes; at most %d are allowed", len(ref), maxReference)
	case strings.ContainsAny(ref, "\x00\n\r"):
		return Reference{}, badName("image %q has control characters", ref)
	}
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		return parseFile(ref, path)
	}
	if rest, ok := strings.CutPrefix(ref, clusterHost); ok {
		return parseCluster(ref, rest)
	}
	for _, scheme := range [...]string{"http://", "https://"} {
		if strings.HasPrefix(ref, scheme) {
			return Reference{}, badName("image %q would come over HTTP, which this version does not fetch: %s", ref, allowed)
		}
	}
	if strings.HasSuffix(ref, ".wasm") && !strings.Contains(ref, ":") {
		return Reference{}, badName("image %q looks like a file: write file:%s, or file:// and its absolute path", ref, filepath.Base(ref))
	}
	return Reference{}, badName("image %q would come from an OCI registry, which this version does not fetch from: %s", ref, allowed)
}

func parseFile(ref, path string) (Reference, error) {
	if abs, ok := strings.CutPrefix(path, "//"); ok {
		if !strings.HasPrefix(abs, "/") {
			return Reference{}, badName("image %q: after file:// comes an absolute path; for one in the node's folders write file:%s", ref, abs)
		}
		return Reference{Source: Absolute, Path: filepath.Clean(abs)}, nil
	}
	if strings.HasPrefix(path, "/") {
		return Reference{Source: Absolute, Path: filepath.Clean(path)}, nil
	}
	if !filepath.IsLocal(path) {
		return Reference{}, badName("image %q: the path must stay within the node's module folders", ref)
	}
	return Reference{Source: Relative, Path: filepath.Clean(path)}, nil
}

func parseCluster(ref, rest string) (Reference, error) {
	name, digest, ok := strings.Cut(rest, "@")
	if !ok {
		return Reference{}, badName("image %q has no digest: use the reference that weft push prints", ref)
	}
	if !namePattern.MatchString(name) {
		return Reference{}, badName("image %q: the name %q must be lower-case letters and digits, separated by . _ / or -", ref, name)
	}
	if !digestPattern.MatchString(digest) {
		return Reference{}, badName("image %q: the digest must be sha256: and 64 hexadecimal digits", ref)
	}
	return Reference{Source: Cluster, Name: name, Digest: digest}, nil
}

// The reasons of an Error, as Kubernetes names them.
const (
	InvalidImageName   = "InvalidImageName"
	ErrImagePull       = "ErrImagePull"
	ErrImageNeverPull  = "ErrImageNeverPull"
	ImageInspectFailed = "ImageInspectError"
)

// Error is why an image cannot be had.
type Error struct {
	// Reason is a Kubernetes container waiting reason.
	Reason string
	// Message is for people: what, and what to do.
	Message string
	err     error
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, if there is one: wasm.ErrInvalidModule, say.
func (e *Error) Unwrap() error { return e.err }

func badName(format string, args ...any) *Error {
	return &Error{Reason: InvalidImageName, Message: fmt.Sprintf(format, args...)}
}

func pullError(err error, format string, args ...any) *Error {
	return &Error{Reason: ErrImagePull, Message: fmt.Sprintf(format, args...) + ": " + err.Error(), err: err}
}

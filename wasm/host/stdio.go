package host

import "io"

// stdin is always at its end.
type stdin struct{}

var _ file = stdin{}

func (stdin) filetype() byte          { return typeUnknown }
func (stdin) stat() (filestat, error) { return filestat{nlink: 1}, nil }
func (stdin) close() error            { return nil }

// stream is standard output or error.
type stream struct{ io.Writer }

var _ file = stream{}

func (stream) filetype() byte          { return typeUnknown }
func (stream) stat() (filestat, error) { return filestat{nlink: 1}, nil }
func (stream) close() error            { return nil }

package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"time"
)

// RotatedSuffix is what a full file's name gets.
const RotatedSuffix = ".1"

// MaxRecord bounds one record that is read, in bytes. What is longer, in a file
// that someone else damaged, is an error of that record alone.
const MaxRecord = MaxText + 128

// Line is one record.
type Line struct {
	Time   time.Time
	Stream string // stdout or stderr
	// Partial is true if the text's line goes on in the next record of the
	// same stream.
	Partial bool
	// Text has no line end. It is valid until the next record is read.
	Text []byte
}

var errRecord = errors.New("not a log record")

// Parse reads a record without its line end. The Text shares b's memory.
func Parse(b []byte) (Line, error) {
	stamp, rest, ok := bytes.Cut(b, []byte(" "))
	if !ok || len(stamp) > 64 {
		return Line{}, fmt.Errorf("%w: no time", errRecord)
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return Line{}, fmt.Errorf("%w: bad time", errRecord)
	}
	stream, rest, _ := bytes.Cut(rest, []byte(" "))
	l := Line{Time: at}
	switch string(stream) {
	case "stdout":
		l.Stream = "stdout"
	case "stderr":
		l.Stream = "stderr"
	default:
		return Line{}, fmt.Errorf("%w: unknown stream", errRecord)
	}
	tag, text, _ := bytes.Cut(rest, []byte(" "))
	switch string(tag) {
	case "F":
	case "P":
		l.Partial = true
	default:
		return Line{}, fmt.Errorf("%w: unknown tag", errRecord)
	}
	l.Text = text
	return l, nil
}

// whole reports whether a record ends its line, without parsing its time.
func whole(record []byte) bool {
	for range 2 {
		i := bytes.IndexByte(record, ' ')
		if i < 0 {
			return true
		}
		record = record[i+1:]
	}
	return len(record) == 0 || record[0] != 'P'
}

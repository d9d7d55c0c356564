// Package guard is a process between a host and one of its plugins, which ends
// when the plugin or the host does, and every process with it that the plugin
// has started, whatever that did to get away. It must not know what a plugin
// says.
//
// It is the plugin's parent, and has the kernel give it what descendants leave
// behind (PR_SET_CHILD_SUBREAPER): so none has a parent beyond the guard, and
// all are found by following parents.
//
// Whoever becomes a guard does so before the rest of its program is initialised
// (cmd/internal/guard), so this package must import nothing that Go initialises
// late: neither fmt, os/exec or strings, nor anything outside of the standard
// library.
package guard

import (
	"bytes"
	"errors"
	"strconv"
)

// The descriptors of a guard. The first three are for the plugin, and so are
// these until OrderFD.
const (
	LifelineFD = 3 // to read; ends with the host
	DeathFD    = 4 // to write; is closed with the plugin, and with who has it from there
	OrderFD    = 5 // to read; what to start
	ReportFD   = 6 // to write; the plugin's process as a number, or why it could not be started
)

// Order is what a guard is to start.
type Order struct {
	// Path is the program.
	Path string
	// Args are what it is started with, its name first, and Env is all of its
	// environment.
	Args, Env []string
}

// Encode writes an order as the number of its arguments, its path, arguments
// and environment, each ended by a zero byte, which none of them can hold, and
// an empty string at the end. It goes by a pipe and not with the guard's own
// arguments and environment, by which a person, or a host, tells the processes
// of a plugin that are to be killed.
func (o Order) Encode() ([]byte, error) {
	var data bytes.Buffer
	for _, text := range append(append([]string{strconv.Itoa(len(o.Args)), o.Path}, o.Args...), o.Env...) {
		if bytes.IndexByte([]byte(text), 0) >= 0 {
			return nil, errors.New(strconv.Quote(text) + " cannot be in a command")
		}
		data.WriteString(text)
		data.WriteByte(0)
	}
	data.WriteByte(0)
	return data.Bytes(), nil
}

var errOrder = errors.New("the order ended early, or is none")

func decode(data []byte) (Order, error) {
	var fields []string
	for field := range bytes.SplitSeq(data, []byte{0}) {
		fields = append(fields, string(field))
	}
	if len(fields) < 4 || fields[len(fields)-1] != "" || fields[len(fields)-2] != "" {
		return Order{}, errOrder
	}
	fields = fields[:len(fields)-2]
	n, err := strconv.Atoi(fields[0])
	if err != nil || n < 1 || n > len(fields)-2 {
		return Order{}, errOrder
	}
	return Order{Path: fields[1], Args: fields[2 : 2+n], Env: fields[2+n:]}, nil
}

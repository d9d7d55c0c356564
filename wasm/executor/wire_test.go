package executor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/wasm"
)

func frame(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func TestReadMessage(t *testing.T) {
	var buf []byte
	got, err := readMessage(bytes.NewReader(frame(`{"id":7,"op":"stop","grace":1000,"new":true}`)), &buf)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&message{ID: 7, Op: opStop, Grace: time.Microsecond}, got); diff != "" {
		t.Error(diff)
	}
	for name, in := range map[string][]byte{
		"too large": {0xff, 0xff, 0xff, 0xff},
		"cut off":   frame(`{"id":7}`)[:6],
		"no JSON":   frame(`{"id":`),
	} {
		if _, err := readMessage(bytes.NewReader(in), &buf); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if len(buf) > maxFrame {
		t.Error("the length was believed before it was checked")
	}
}

func TestWireErrors(t *testing.T) {
	for _, sentinel := range []error{wasm.ErrInvalidModule, wasm.ErrLimits, wasm.ErrGone, io.EOF} {
		e := toWire(fmt.Errorf("start x: %w", sentinel))
		if want := !errors.Is(sentinel, io.EOF); errors.Is(e, sentinel) != want {
			t.Errorf("%v: unwraps: %v", sentinel, !want)
		}
	}
	if toWire(nil) != nil {
		t.Error("an error for none")
	}
}

// A child that a guest took over must not bring the agent down.
func FuzzReceive(f *testing.F) {
	f.Add(frame(`{"op":"ended","states":[{"sandbox":"s","id":"a","exit":{"Reason":"exited"}}]}`))
	f.Add(frame(`{"id":1,"op":"start","states":[]}`))
	f.Add(frame(`{"id":1,"error":{"kind":"gone","text":"x"}}`))
	f.Add(append(frame(`{"op":"ended","states":[{}]}`), frame(`{"op":"ended","states":[{"exit":{}}]}`)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		agent, other := net.Pipe()
		defer agent.Close()
		defer other.Close()
		s := newSession(&Client{config: Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}}, &child{conn: agent})
		s.calls[1] = &call{reply: make(chan *message, 1), first: func(m *message) {
			for _, st := range m.States {
				s.learn(st)
			}
		}}
		r := bytes.NewReader(in)
		var buf []byte
		for {
			m, err := readMessage(r, &buf)
			if err != nil {
				break
			}
			if err := s.receive(m); err != nil {
				break
			}
		}
		s.end(false, wasm.Exit{Reason: wasm.Lost})
	})
}

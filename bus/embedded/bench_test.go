package embedded_test

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/weftrun/weft/bus"
	"github.com/weftrun/weft/bus/bustest"
	"github.com/weftrun/weft/bus/embedded"
)

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{512, 64 << 10} {
		b.Run(fmt.Sprint("bytes=", size), func(b *testing.B) {
			s := start(b, embedded.Config{NoListen: true})
			log, err := connect(b, s, bustest.Core).OpenLog(b.Context(), "WAL")
			if err != nil {
				b.Fatal(err)
			}
			record := make([]byte, size)
			last := uint64(0)
			b.SetBytes(int64(size))
			for b.Loop() {
				if last, err = log.Append(b.Context(), last, record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRead reads what recovery of 100,000 objects of 1.5 KB would.
func BenchmarkRead(b *testing.B) {
	const records, size = 600, 256 << 10
	s := start(b, embedded.Config{NoListen: true, Unsynced: true})
	log, err := connect(b, s, bustest.Core).OpenLog(b.Context(), "WAL")
	if err != nil {
		b.Fatal(err)
	}
	for i := range uint64(records) {
		if _, err := log.Append(b.Context(), i, make([]byte, size)); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(records * size)
	for b.Loop() {
		n := 0
		for _, err := range log.Read(b.Context(), 1) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != records {
			b.Fatalf("read %d", n)
		}
	}
}

// BenchmarkReadSmall reads one record for each object.
func BenchmarkReadSmall(b *testing.B) {
	const records = 20_000
	s := start(b, embedded.Config{NoListen: true, Unsynced: true})
	log, err := connect(b, s, bustest.Core).OpenLog(b.Context(), "WAL")
	if err != nil {
		b.Fatal(err)
	}
	for i := range uint64(records) {
		if _, err := log.Append(b.Context(), i, make([]byte, 1500)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		for _, err := range log.Read(b.Context(), 1) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(records*b.N)/b.Elapsed().Seconds(), "records/s")
}

func BenchmarkPublish(b *testing.B) {
	s := start(b, embedded.Config{NoListen: true})
	core, node := connect(b, s, bustest.Core), connect(b, s, bustest.Node)
	done := make(chan struct{}, 1) // one signal a round
	const round = 10_000
	n := 0
	if _, err := node.Subscribe(b.Context(), bus.DesiredPattern(bustest.Node.Name), func(bus.Message) {
		if n++; n%round == 0 {
			done <- struct{}{}
		}
	}); err != nil {
		b.Fatal(err)
	}
	m := bus.Message{Subject: bus.DesiredSubject(bustest.Node.Name, "pods", "uid"), Data: make([]byte, 512)}
	for b.Loop() {
		for range round {
			if err := core.Publish(b.Context(), m); err != nil {
				b.Fatal(err)
			}
		}
		<-done
	}
	b.ReportMetric(float64(round*b.N)/b.Elapsed().Seconds(), "messages/s")
}

func BenchmarkCall(b *testing.B) {
	s := start(b, embedded.Config{NoListen: true})
	core, node := connect(b, s, bustest.Core), connect(b, s, bustest.Node)
	if _, err := core.Serve(b.Context(), bus.AllAPI, func(_ context.Context, m bus.Message) (bus.Message, error) { return m, nil }); err != nil {
		b.Fatal(err)
	}
	m := bus.Message{Subject: bus.APISubject(bustest.Node, "x"), Data: make([]byte, 512)}
	for b.Loop() {
		if _, err := node.Call(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	const size = 16 << 20
	s := start(b, embedded.Config{NoListen: true})
	core, node := connect(b, s, bustest.Core), connect(b, s, bustest.Node)
	if _, err := node.Accept(b.Context(), bus.NodePattern(bustest.Node.Name), func(_ context.Context, _ bus.Message, s bus.Stream) error {
		_, err := s.Write(make([]byte, size))
		return err
	}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		stream, err := core.Open(b.Context(), bus.Message{Subject: bus.NodeSubject(bustest.Node.Name, "x")})
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, stream); n != size || err != nil {
			b.Fatal(n, err)
		}
		_ = stream.Close()
	}
}

// BenchmarkStart also tells what an idle server with one connection holds.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	before, after := heap(), 0.0
	for b.Loop() {
		s, err := embedded.Start(b.Context(), embedded.Config{Dir: dir, Logger: quiet()})
		if err != nil {
			b.Fatal(err)
		}
		c, err := s.Connect(b.Context(), bustest.Core)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.OpenLog(b.Context(), "WAL"); err != nil {
			b.Fatal(err)
		}
		if after == 0 {
			b.StopTimer()
			after = heap()
			b.StartTimer()
		}
		_ = c.Close()
		s.Shutdown()
	}
	b.ReportMetric(after-before, "idle-MiB")
}

package history

import (
	"strings"
	"testing"
	"time"
)

func TestCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		ops    func(r *Recorder)
		linear bool
	}{
		"in order": {func(r *Recorder) {
			r.Add(1, "a").Done(1)
			r.Read(2, "a").Done(1)
			r.Add(2, "a").Done(2)
		}, true},
		"at once": {func(r *Recorder) {
			first, second := r.Add(1, "a"), r.Add(2, "a")
			first.Done(2)
			second.Done(1)
		}, true},
		"lost": {func(r *Recorder) {
			r.Add(1, "a").Done(1)
			r.Add(2, "a").Done(1)
		}, false},
		"read from before": {func(r *Recorder) {
			r.Add(1, "a").Done(1)
			r.Read(2, "a").Done(0)
		}, false},
		"unknown and done": {func(r *Recorder) {
			r.Add(1, "a").Unknown()
			r.Read(2, "a").Done(1)
		}, true},
		"unknown and done late": {func(r *Recorder) {
			r.Add(1, "a").Unknown()
			r.Read(2, "a").Done(0)
			r.Read(2, "a").Done(1)
		}, true},
		"unknown and not done": {func(r *Recorder) {
			r.Add(1, "a").Unknown()
			r.Add(2, "a").Done(1)
			r.Read(2, "a").Done(1)
		}, true},
		"unknown and done twice": {func(r *Recorder) {
			r.Add(1, "a").Unknown()
			r.Read(2, "a").Done(2)
		}, false},
		"objects apart": {func(r *Recorder) {
			r.Add(1, "a").Done(1)
			r.Add(1, "b").Done(1)
			r.Read(1, "c").Unknown()
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var r Recorder
			tt.ops(&r)
			err := r.Check(10 * time.Second)
			if (err == nil) != tt.linear {
				t.Errorf("got %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), "client 2") {
				t.Errorf("the operations are not told: %v", err)
			}
		})
	}
}

package executor

import (
	"fmt"
	"testing"
)

func TestApportion(t *testing.T) {
	for name, c := range map[string]struct {
		slots int
		hot   []int
		want  string
	}{
		"none":              {4, nil, "[]"},
		"one":               {4, []int{0}, "[4]"},
		"all cold":          {4, []int{0, 0}, "[3 3]"},
		"one hot":           {4, []int{9, 0}, "[4 1]"},
		"both hot":          {4, []int{9, 9}, "[2 2]"},
		"one a little":      {4, []int{9, 1}, "[3 1]"},
		"more than is":      {2, []int{3, 3, 3}, "[1 1 1]"},
		"what nobody lacks": {8, []int{1, 1}, "[4 4]"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(apportion(c.slots, c.hot)); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// However hot they are, those whose guests compute have no more slots than
// there are, unless there are more of them than slots.
func TestApportionNeverExceeds(t *testing.T) {
	for slots := 1; slots <= 5; slots++ {
		for code := range 4 * 4 * 4 * 4 {
			hot := []int{code % 4, code / 4 % 4, code / 16 % 4, code / 64}
			sum, executors := 0, 0
			for i, n := range apportion(slots, hot) {
				if n < 1 {
					t.Fatalf("%d slots, %v: someone has none", slots, hot)
				}
				if hot[i] > 0 {
					executors++
					sum += n
				}
			}
			if sum > max(slots, executors) {
				t.Errorf("%d slots, %v: %d are given", slots, hot, sum)
			}
		}
	}
}

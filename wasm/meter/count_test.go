package meter_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftrun/weft/wasm/meter"
)

// Pieces of code. Constants are of one byte: -64 to 63.
const (
	block, loop, iff, end, br, brIf, drop = "\x02\x40", "\x03\x40", "\x04\x40", "\x0b", "\x0c", "\x0d", "\x1a"
	get, set, tee, eqz, eq, ne, ltU, add  = "\x20", "\x21", "\x22", "\x45", "\x46", "\x47", "\x49", "\x6a"
	// burn counts g0 down, and traps at 0.
	burn = "\x23\x00\x41\x01\x6b\x24\x00\x23\x00\x45" + iff + "\x00" + end
)

const fuel = 20_000

func number(n int) string { return "\x41" + string([]byte{byte(n) & 0x7f}) }

func local(op string, n int) string { return op + string([]byte{byte(n)}) }

// step adds to a local.
func step(n, by int) string { return local(get, n) + number(by) + add + local(set, n) }

// function makes a module of a function's body, with two parameters and two locals more
// and the global g0.
func function(body string) []byte {
	body = "\x01\x02\x7f" + body + end
	section := func(id byte, content string) string {
		return string([]byte{id, byte(len(content))&0x7f | 0x80, byte(len(content) >> 7)}) + content
	}
	return []byte("\x00asm\x01\x00\x00\x00" +
		section(1, "\x01\x60\x02\x7f\x7f\x00") + section(3, "\x01\x00") +
		section(6, "\x01\x7f\x01\x41\xa0\x9c\x01\x0b") + // fuel
		section(7, "\x02\x01f\x00\x00\x02g0\x03\x00") +
		section(10, "\x01"+string([]byte{byte(len(body))&0x7f | 0x80, byte(len(body) >> 7)})+body))
}

// A loop has no check if it is known how many rounds it runs at most, and one in all
// others, however much they resemble it.
func TestCountedLoops(t *testing.T) {
	start := number(4) + local(set, 2)
	until := local(get, 2) + number(40) + ne + brIf + "\x00"
	upTo := local(get, 2) + number(40) + eq + brIf + "\x01"
	for name, tc := range map[string]struct {
		body   string
		checks int
	}{
		"until":                     {start + loop + burn + step(2, 4) + until + end, 0},
		"until, by tee":             {start + loop + burn + local(get, 2) + number(4) + add + local(tee, 2) + number(40) + ne + brIf + "\x00" + end, 0},
		"from 0":                    {loop + burn + step(2, 4) + until + end, 0},
		"first by tee":              {number(4) + local(tee, 2) + drop + loop + burn + step(2, 4) + until + end, 0},
		"up to":                     {block + start + loop + burn + upTo + step(2, 4) + br + "\x00" + end + end, 0},
		"up to, counted":            {block + start + loop + burn + step(2, 4) + upTo + br + "\x00" + end + end, 0},
		"back from within":          {block + start + loop + burn + step(2, 4) + upTo + local(get, 0) + iff + br + "\x01" + end + end + end, 0},
		"others are set":            {start + loop + burn + step(3, 1) + step(2, 4) + local(get, 3) + local(set, 0) + until + end, 0},
		"holds a loop":              {block + start + loop + burn + loop + burn + local(get, 0) + brIf + "\x00" + end + step(2, 4) + until + end + end, 2},
		"holds one that is counted": {start + loop + number(4) + local(set, 3) + loop + step(3, 4) + local(get, 3) + number(8) + ne + brIf + "\x00" + end + burn + step(2, 4) + until + end, 1},
		"left as well":              {block + start + loop + local(get, 0) + brIf + "\x01" + burn + step(2, 4) + until + end + end, 0},
		"first by another way":      {block + local(get, 0) + brIf + "\x00" + start + end + loop + burn + step(2, 4) + until + end, 1},

		"heavy":                      {start + loop + burn + burn + burn + burn + step(2, 1) + until + end, 1},
		"from a parameter":           {loop + burn + step(0, 4) + local(get, 0) + number(40) + ne + brIf + "\x00" + end, 1},
		"not from a constant":        {local(get, 0) + local(set, 2) + loop + burn + step(2, 4) + until + end, 1},
		"from beyond":                {number(44) + local(set, 2) + loop + burn + step(2, 4) + until + end, 1},
		"from the end":               {number(40) + local(set, 2) + loop + burn + step(2, 4) + until + end, 1},
		"stepped over":               {start + loop + burn + step(2, 5) + until + end, 1},
		"backward":                   {start + loop + burn + step(2, -4) + until + end, 1},
		"by 0":                       {start + loop + burn + step(2, 0) + until + end, 1},
		"not by adding":              {start + loop + burn + local(get, 2) + number(4) + "\x6c" + local(set, 2) + until + end, 1},
		"of another":                 {start + loop + burn + local(get, 3) + number(4) + add + local(set, 2) + until + end, 1},
		"not compared itself":        {start + loop + burn + step(2, 4) + local(get, 3) + number(40) + ne + brIf + "\x00" + end, 1},
		"set back":                   {start + loop + burn + step(2, 4) + local(get, 0) + iff + start + end + until + end, 1},
		"set back before":            {start + loop + start + burn + step(2, 4) + until + end, 1},
		"counted at times":           {start + loop + burn + local(get, 0) + iff + step(2, 4) + end + until + end, 1},
		"counted twice":              {start + loop + burn + step(2, 4) + step(2, 4) + until + end, 1},
		"counted behind":             {block + start + loop + burn + upTo + local(get, 0) + brIf + "\x00" + step(2, 4) + end + end, 1},
		"compared at times":          {block + start + loop + burn + step(2, 4) + local(get, 0) + iff + local(get, 2) + number(40) + eq + brIf + "\x02" + end + br + "\x00" + end + end, 1},
		"compared behind":            {block + start + loop + burn + step(2, 4) + local(get, 0) + brIf + "\x00" + upTo + end + end, 1},
		"led back twice":             {block + start + loop + burn + step(2, 4) + local(get, 0) + brIf + "\x00" + upTo + br + "\x00" + end + end, 1},
		"left if it is another":      {block + start + loop + burn + step(2, 4) + local(get, 2) + number(40) + ne + brIf + "\x01" + br + "\x00" + end + end, 1},
		"led back if it is that":     {start + loop + burn + step(2, 4) + local(get, 2) + number(40) + eq + brIf + "\x00" + end, 1},
		"first of an outer loop":     {start + loop + loop + burn + step(2, 4) + until + end + local(get, 0) + brIf + "\x00" + end, 2},
		"first in one branch":        {local(get, 0) + iff + start + end + loop + burn + step(2, 4) + until + end, 1},
		"within a loop, by each":     {loop + start + loop + burn + step(2, 4) + until + end + burn + local(get, 0) + brIf + "\x00" + end, 1},
		"compares what it came with": {start + loop + local(get, 2) + burn + step(2, 4) + number(40) + ne + brIf + "\x00" + end, 1},
	} {
		t.Run(name, func(t *testing.T) {
			module := function(tc.body)
			_, info, err := meter.Rewrite(module, meter.Options{Bound: 64})
			if err != nil {
				t.Fatal(err)
			}
			if info.Loops != tc.checks {
				t.Errorf("%d loops are checked, want %d", info.Loops, tc.checks)
			}
			for _, args := range [][]uint64{{0, 0}, {1, 1}} {
				bounded(t, newPlay(t), module, args...)
			}
		})
	}
}

// All rounds of a loop that has no check are paid for.
func TestCountedLoopsArePaid(t *testing.T) {
	const budget, bound = 1 << 12, 64
	module := function(loop + number(4) + local(set, 2) +
		loop + burn + step(2, 4) + local(get, 2) + number(40) + ne + brIf + "\x00" + end + br + "\x00" + end)
	out, info, err := meter.Rewrite(module, meter.Options{Bound: bound})
	if err != nil || info.Loops != 1 {
		t.Fatalf("%d loops are checked, want the outer one: %v", info.Loops, err)
	}
	p := newPlay(t)
	p.budget = budget
	if _, err := p.run(t.Context(), out, "f", 0, 0); err != nil {
		t.Fatal(err)
	}
	// A round weighs 14 at least, and what is owed when a budget ends is forgotten: 13 bounds at most.
	if paid := p.refills * (budget + 13*bound); paid < 14*fuel {
		t.Errorf("paid %d for %d rounds", paid, fuel)
	}
}

// bounded runs a module both ways, and metered with a host that is asked at
// each check.
func bounded(t *testing.T, p *play, module []byte, args ...uint64) {
	t.Helper()
	const bound = 64
	want, err := p.run(t.Context(), module, "f", args...)
	if err != nil {
		t.Fatalf("the module is invalid: %v", err)
	}
	out := rewrite(t, module, meter.Options{Bound: bound})
	p.budget, p.watch, p.gap = 0, true, 0
	got, err := p.run(t.Context(), out, "f", args...)
	p.watch = false
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metered differs:\n%s", diff)
	}
	p.look(got.Globals[0])
	// A round weighs 14 at least; counted ones may weigh 8 bounds, others and what is
	// around them 5.
	if most := uint64(13*bound/14 + 2); p.gap > most {
		t.Errorf("%d rounds without a check, more than %d", p.gap, most)
	}
}

// Loops that resemble counted ones at random run no longer unchecked than those that are.
func TestCountedLoopsAtRandom(t *testing.T) {
	p := newPlay(t)
	counted := 0
	for seed := range uint64(20_000) {
		if resembles(t, p, seed) {
			counted++
		}
	}
	if counted < 200 {
		t.Errorf("%d loops were taken for counted ones, too few to tell", counted)
	}
}

func FuzzCountedLoops(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { resembles(t, newPlay(t), seed) })
}

// resembles tries a loop, and reports whether it was taken for a counted one.
func resembles(t *testing.T, p *play, seed uint64) bool {
	t.Helper()
	module := function(countedAtRandom(rand.New(rand.NewPCG(seed, 2)))) //nolint:gosec // repeatable
	_, info, err := meter.Rewrite(module, meter.Options{Bound: 64})
	if err != nil {
		t.Fatal(err)
	}
	if info.Loops > 0 {
		return false // checked, as all others are
	}
	for _, args := range [][]uint64{{0, 0}, {1, 40}} {
		bounded(t, p, module, args...)
	}
	if t.Failed() {
		t.Fatalf("seed %d: %x", seed, module)
	}
	return true
}

func countedAtRandom(r *rand.Rand) string {
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	index := func() int { return 2 + r.IntN(8)/7 }
	first := func() string { return number(4*r.IntN(4)) + local(set, index()) }
	wrap := func(code string) string {
		switch r.IntN(10) {
		case 0:
			return block + code + end
		case 1:
			return local(get, r.IntN(2)) + iff + code + end
		}
		return code
	}
	compare := func(comparisons ...string) string {
		return local(get, index()) + number(4*r.IntN(12)) + pick(comparisons...) + brIf
	}
	parts := []string{burn, wrap(step(index(), []int{1, 2, 4, 4, 4, -4}[r.IntN(6)]))}
	if r.IntN(2) == 0 {
		parts = append(parts, wrap(compare(eq, eq, eq, ne, ltU)+pick("\x01", "\x01", "\x00")))
	}
	if r.IntN(6) == 0 {
		parts = append(parts, wrap(first()))
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	last := pick(br+"\x00", compare(ne, ne, ne, eq, ltU)+"\x00", local(get, 0)+brIf+"\x00")
	before := []string{first(), first(), wrap(local(get, 0) + local(set, 1))}
	body := slices.Concat(before[r.IntN(2):], []string{loop}, parts, []string{last, end})
	all := ""
	for _, part := range body {
		all += part
	}
	return block + all + end
}

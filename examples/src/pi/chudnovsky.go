package main

import "math/big"

// guard digits absorb the rounding of the last division and root.
const guard = 10

// Digits returns pi with n digits in all, the 3 included, as "3.14...". It sums
// Chudnovsky's series by binary splitting, which keeps the numbers exact.
func Digits(n int) string {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n+guard)), nil)
	terms := int64(n+guard)/14 + 2 // each gives 14.18 digits
	_, q, t := split(0, terms)

	// pi = 426880 * sqrt(10005) * Q / T
	root := new(big.Int).Mul(big.NewInt(10005), scale)
	root.Mul(root, scale).Sqrt(root)
	pi := root.Mul(root, big.NewInt(426880))
	pi.Mul(pi, q).Quo(pi, t)

	s := pi.String()[:n]
	if n == 1 {
		return s
	}
	return s[:1] + "." + s[1:]
}

// split returns P, Q and T of the terms from a up to b.
func split(a, b int64) (p, q, t *big.Int) {
	if b-a == 1 {
		return term(a)
	}
	m := (a + b) / 2
	p1, q1, t1 := split(a, m)
	p2, q2, t2 := split(m, b)
	t1.Mul(t1, q2)
	t2.Mul(t2, p1)
	return p1.Mul(p1, p2), q1.Mul(q1, q2), t1.Add(t1, t2)
}

func term(k int64) (p, q, t *big.Int) {
	if k == 0 {
		return big.NewInt(1), big.NewInt(1), big.NewInt(13591409)
	}
	p = big.NewInt(-(6*k - 5))
	p.Mul(p, big.NewInt(2*k-1)).Mul(p, big.NewInt(6*k-1))
	const c3over24 = 640320 * 640320 / 24 * 640320
	q = big.NewInt(k * k)
	q.Mul(q, big.NewInt(k)).Mul(q, big.NewInt(c3over24))
	t = big.NewInt(545140134)
	t.Mul(t, big.NewInt(k)).Add(t, big.NewInt(13591409)).Mul(t, p)
	return p, q, t
}

package main

import "testing"

func TestDigits(t *testing.T) {
	const known = "3.1415926535897932384626433832795028841971693993751058209749445923078164062862089986280348253421170679"
	for n := 2; n < len(known); n++ {
		if got, want := Digits(n), known[:n+1]; got != want {
			t.Fatalf("%d digits: got %s, want %s", n, got, want)
		}
	}
	if got := Digits(1); got != "3" {
		t.Errorf("got %s, want 3", got)
	}
	// The 991st to 1,000th digit after the point, as published.
	if got := Digits(1001)[992:]; got != "2164201989" {
		t.Errorf("got %s", got)
	}
}

package main

import "testing"

// TestTrimmer_AfterBursts ensures that memory is given back once after each burst, not during it, and never
// because of a trickle alone that has not added up.
func TestTrimmer_AfterBursts(t *testing.T) {
	const mib = 1 << 20
	var at trimmer
	total := uint64(0)
	for i, step := range []struct {
		mib  uint64
		want bool
	}{
		{1, false}, {3, false}, // quiet, and little of it
		{50, false}, {100, false}, {1, true}, {1, false}, // a burst
		{4, false}, {4, false}, {4, false}, {4, false}, {4, false}, {4, false}, {4, false}, {4, true}, // a trickle adds up
		{0, false},
	} {
		total += step.mib * mib
		if got := at.due(total); got != step.want {
			t.Errorf("step %d: due = %v, want %v", i, got, step.want)
		}
	}
	if before, b := allocated(), make([]byte, mib); allocated() < before+uint64(len(b)) {
		t.Error("the runtime does not count allocations as expected")
	}
}

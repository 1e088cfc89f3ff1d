package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// TestAskHuge ensures that the kernel is asked for huge pages for all of some memory, and that one without them is no obstacle.
func TestAskHuge(t *testing.T) {
	_, err := os.Stat("/sys/kernel/mm/transparent_hugepage")
	want := err == nil
	for _, size := range []int{1, 5 << 20} {
		b := make([]byte, size)
		askHuge(b)
		for _, at := range []int{0, size / 2, size - 1} {
			if asked := isHuge(t, &b[at]); asked != want {
				t.Errorf("byte %d of %d: kernel asked for huge pages: %v, want %v", at, size, asked, want)
			}
		}
	}
}

// isHuge reports whether the kernel was asked for huge pages where b is.
func isHuge(t *testing.T, b *byte) bool {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	at, inside := uint64(uintptr(unsafe.Pointer(b))), false
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		if n, _ := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 {
			inside = from <= at && at < to
		} else if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok && inside {
			return slices.Contains(strings.Fields(flags), "hg")
		}
	}
	t.Fatalf("no memory at %#x", at)
	return false
}

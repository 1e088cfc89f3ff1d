package main

import (
	"math/bits"
	"time"
)

// A histogram counts durations in buckets about 1.6 % wide. The zero value is empty.
type histogram struct {
	counts [64 << subBits]uint64
	total  uint64
	max    time.Duration
}

const subBits = 6

// bucket returns where a duration is counted: its magnitude, and the next subBits bits.
func bucket(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return (shift+1)<<subBits | int(v>>shift)&(1<<subBits-1)
}

// value returns the smallest duration of a bucket.
func value(bucket int) time.Duration {
	shift := bucket>>subBits - 1
	if shift < 0 {
		return time.Duration(bucket)
	}
	return time.Duration((1<<subBits | bucket&(1<<subBits-1)) << shift)
}

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
	h.max = max(h.max, d)
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.counts {
		h.counts[i] += n
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile returns the duration that the part q of all do not exceed by more than a bucket; 0 when empty.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	for i, n := range h.counts {
		if rank < n {
			return value(i)
		}
		rank -= n
	}
	return h.max
}

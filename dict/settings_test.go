package dict

import (
	"errors"
	"testing"
	"time"
)

// TestParseDuration ensures that durations are read as Go and Postfix write them and come back from their text,
// and that nothing that could be meant in two ways is taken.
func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"31d": 31 * Day, "2w": 14 * Day, "1w2d3h": 9*Day + 3*time.Hour, "1d12h": 36 * time.Hour, "100ms": 100 * time.Millisecond,
		"1h30m": 90 * time.Minute, "off": 0, "0": 0, "0s": 0, "1.5h": 90 * time.Minute, "24h": Day,
	} {
		d, err := ParseDuration(text)
		if err != nil || d != want {
			t.Errorf("%s: %v, %v; want %v", text, d, err, want)
		}
		if again, err := ParseDuration(FormatDuration(d)); err != nil || again != d {
			t.Errorf("%s is written as %s, which is %v, %v", text, FormatDuration(d), again, err)
		}
	}
	for _, text := range []string{"", "7", "7 d", "-1d", "d", "1d2w", "1.5d", "-3s", "1y", "99999d", "1d-3s", "106751d9223372036s"} {
		if d, err := ParseDuration(text); !errors.Is(err, ErrBadSource) {
			t.Errorf("%q: %v, %v; want an error", text, d, err)
		}
	}
	for d, want := range map[time.Duration]string{0: "off", 7 * Day: "7d", 36 * time.Hour: "36h", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", time.Hour + 30*time.Second: "1h0m30s"} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%v is written as %s, want %s", d, got, want)
		}
	}
}

// TestSettings ensures that a change touches what it names, that caches have a deadline of their own, and that what
// makes no sense is refused.
func TestSettings(t *testing.T) {
	week, zero, many := 7*Day, time.Duration(0), int64(1000)
	s := Settings{MaxStaleness: time.Minute}.With(SettingsChange{ExpireAfter: &week, MaxEntries: &many})
	if s != (Settings{MaxEntries: 1000, ExpireAfter: week, MaxStaleness: time.Minute}) || s.WriteWithin() != CacheWriteDeadline {
		t.Errorf("%+v", s)
	}
	if s = s.With(SettingsChange{ExpireAfter: &zero}); !s.Bounded() || s.ExpireAfter != 0 {
		t.Errorf("%+v", s)
	}
	if (Settings{MaxStaleness: time.Minute}).WriteWithin() != 0 || (Settings{ExpireAfter: week, WriteDeadline: time.Second}).WriteWithin() != time.Second {
		t.Error("WriteWithin")
	}
	for _, c := range []struct {
		s   Settings
		typ string
		ok  bool
	}{
		{Settings{}, TypeHash, true},
		{s, TypeHash, true},
		{Settings{MaxStaleness: time.Minute}, TypePCRE, true},
		{Settings{MaxEntries: 1}, TypePCRE, false},
		{Settings{ExpireAfter: Day}, TypeCIDR, false},
		{Settings{WriteDeadline: time.Second}, TypeCIDR, false},
		{Settings{MaxEntries: -1}, TypeHash, false},
		{Settings{ExpireAfter: time.Millisecond}, TypeHash, false},
		{Settings{ExpireAfter: -time.Hour}, TypeHash, false},
		{Settings{WriteDeadline: time.Minute}, TypeHash, false},
		{Settings{MaxStaleness: time.Nanosecond}, TypeHash, false},
	} {
		if err := c.s.Check(c.typ); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrBadSource) {
			t.Errorf("%+v of %s: %v", c.s, c.typ, err)
		}
	}
}

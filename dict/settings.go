package dict

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// CacheWriteDeadline is the write deadline of a table with MaxEntries or ExpireAfter that sets none: postscreen(8)
// and verify(8) do their cache work in the only thread that they have.
const CacheWriteDeadline = 100 * time.Millisecond

// Bounds of Settings. They are part of what the nodes of a cluster agree on: other ones need commands of their own.
const (
	maxEntriesLimit  = 1 << 40
	minExpireAfter   = time.Second
	maxExpireAfter   = 3660 * Day
	minWriteDeadline = 10 * time.Millisecond
	maxWriteDeadline = 5 * time.Second
	minMaxStaleness  = 100 * time.Millisecond
	maxMaxStaleness  = 3660 * Day
)

// Day is 24 hours.
const Day = 24 * time.Hour

// Settings are what an operator has set for one raft table. Zero is: not set.
type Settings struct {
	MaxEntries    int64         // the entries written longest ago go when there are more
	ExpireAfter   time.Duration // an entry that was not written for so long goes
	WriteDeadline time.Duration // updates and deletes of Postfix are answered within
	MaxStaleness  time.Duration // lookups are an ErrRetry on a node that has not heard of a leader for so long
}

// A SettingsChange changes the settings that are not nil, to nothing where they are zero.
type SettingsChange struct {
	MaxEntries                               *int64
	ExpireAfter, WriteDeadline, MaxStaleness *time.Duration
}

// With returns the settings after a change.
func (s Settings) With(c SettingsChange) Settings {
	set(&s.MaxEntries, c.MaxEntries)
	set(&s.ExpireAfter, c.ExpireAfter)
	set(&s.WriteDeadline, c.WriteDeadline)
	set(&s.MaxStaleness, c.MaxStaleness)
	return s
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// Change returns the change that makes s of any settings.
func (s Settings) Change() SettingsChange {
	return SettingsChange{&s.MaxEntries, &s.ExpireAfter, &s.WriteDeadline, &s.MaxStaleness}
}

// Bounded reports whether entries go by themselves, as those of a cache do.
func (s Settings) Bounded() bool { return s.MaxEntries > 0 || s.ExpireAfter > 0 }

// WriteWithin returns how long an update or delete may take, 0 where nothing is said about it.
func (s Settings) WriteWithin() time.Duration {
	if s.WriteDeadline == 0 && s.Bounded() {
		return CacheWriteDeadline
	}
	return s.WriteDeadline
}

// Check returns an ErrBadSource for settings that no table of this type may have.
func (s Settings) Check(typ string) error {
	if IsPattern(typ) && (s.Bounded() || s.WriteDeadline != 0) {
		return fmt.Errorf("%w: entries of a %s table are lines of its text, which are neither written nor expire one by one: it takes max-staleness only", ErrBadSource, typ)
	}
	if s.MaxEntries < 0 || s.MaxEntries > maxEntriesLimit {
		return fmt.Errorf("%w: max-entries %d: want 1 to %d, or 0 for no limit", ErrBadSource, s.MaxEntries, int64(maxEntriesLimit))
	}
	for _, d := range []struct {
		name            string
		is, least, most time.Duration
	}{
		{"expire-after", s.ExpireAfter, minExpireAfter, maxExpireAfter},
		{"write-deadline", s.WriteDeadline, minWriteDeadline, maxWriteDeadline},
		{"max-staleness", s.MaxStaleness, minMaxStaleness, maxMaxStaleness},
	} {
		if d.is != 0 && (d.is < d.least || d.is > d.most) {
			return fmt.Errorf("%w: %s %s: want %s to %s, or off", ErrBadSource, d.name, FormatDuration(d.is), FormatDuration(d.least), FormatDuration(d.most))
		}
	}
	return nil
}

// ParseDuration reads a duration as Go writes it, with days and weeks as Postfix has them: 31d, 1d12h, 2w, 90s, 1.5h.
// "0" and "off" are 0. A number alone is refused, for it would be seconds to some and days to others.
func ParseDuration(text string) (time.Duration, error) {
	if text == "off" || text == "0" {
		return 0, nil
	}
	var sum time.Duration
	rest := text
	for _, unit := range []struct {
		letter string
		is     time.Duration
	}{{"w", 7 * Day}, {"d", Day}} {
		number, behind, ok := strings.Cut(rest, unit.letter)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return 0, badDuration(text)
		}
		sum += time.Duration(n) * unit.is
		rest = behind
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 || sum+d < sum {
			return 0, badDuration(text)
		}
		sum += d
	}
	if text == "" {
		return 0, badDuration(text)
	}
	return sum, nil
}

func badDuration(text string) error {
	return fmt.Errorf("%w: duration %q: want one such as 100ms, 90s, 12h, 7d, or off", ErrBadSource, text)
}

// FormatDuration writes a duration so that ParseDuration reads it back, in days where they are whole.
func FormatDuration(d time.Duration) string {
	switch {
	case d == 0:
		return "off"
	case d%Day == 0:
		return strconv.FormatInt(int64(d/Day), 10) + "d"
	}
	text := d.String()
	if cut, ok := strings.CutSuffix(text, "m0s"); ok {
		text = cut + "m"
	}
	if cut, ok := strings.CutSuffix(text, "h0m"); ok {
		text = cut + "h"
	}
	return text
}

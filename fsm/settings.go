package fsm

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"postraft/dict"
)

// Set changes settings of a table.
type Set struct {
	Table  string
	Change dict.SettingsChange
}

// Expire tells a table how much time has passed, and takes out what is too old then or too much. Its sender has seen
// the table's clock stand at From: with another one it does nothing, so that no time is counted twice.
type Expire struct {
	Table    string
	From, To time.Duration
}

func (s *Set) encode() []byte {
	return appendBytes(appendString(nil, 1, s.Table), 2, encodeChange(s.Change))
}

func decodeSet(b []byte) (*Set, error) {
	s := &Set{}
	return s, fields(b, "settings", func(f field) error {
		return f.one(stringInto(1, &s.Table), changeInto(2, &s.Change))
	})
}

func (e *Expire) encode() []byte {
	return appendUint(appendUint(appendString(nil, 1, e.Table), 2, uint64(e.From)), 3, uint64(e.To))
}

func decodeExpire(b []byte) (*Expire, error) {
	e := &Expire{}
	return e, fields(b, "expiry", func(f field) error {
		return f.one(stringInto(1, &e.Table), durationInto(2, &e.From), durationInto(3, &e.To))
	})
}

func durationInto(num protowire.Number, to *time.Duration) setter {
	return func(f field) (bool, error) {
		if !f.is(num, protowire.VarintType) {
			return false, nil
		}
		*to = time.Duration(f.uint)
		return true, nil
	}
}

// changeFields are the fields 2 to 4 of the message Settings.
func changeFields(c *dict.SettingsChange) (durations [3]**time.Duration) {
	return [3]**time.Duration{&c.ExpireAfter, &c.WriteDeadline, &c.MaxStaleness}
}

// encodeChange encodes the settings that a change is about, those that it clears too.
func encodeChange(c dict.SettingsChange) []byte {
	body := []byte{}
	if c.MaxEntries != nil {
		body = appendUint(body, 1, uint64(*c.MaxEntries))
	}
	for i, d := range changeFields(&c) {
		if *d != nil {
			body = appendUint(body, protowire.Number(i+2), uint64(**d))
		}
	}
	return body
}

// appendSettings appends nothing for no settings: so a command without any is of level 1.
func appendSettings(dst []byte, field protowire.Number, s dict.Settings) []byte {
	if s == (dict.Settings{}) {
		return dst
	}
	return appendBytes(dst, field, encodeChange(s.Change()))
}

func changeInto(num protowire.Number, to *dict.SettingsChange) setter {
	return func(f field) (bool, error) {
		if !f.is(num, protowire.BytesType) {
			return false, nil
		}
		return true, fields(f.bytes, "settings", func(f field) error {
			if f.typ == protowire.VarintType && f.num == 1 {
				n := int64(f.uint)
				to.MaxEntries = &n
				return nil
			}
			if f.typ == protowire.VarintType && f.num >= 2 && f.num <= 4 {
				d := time.Duration(f.uint)
				*changeFields(to)[f.num-2] = &d
				return nil
			}
			return f.unknown()
		})
	}
}

func settingsInto(num protowire.Number, to *dict.Settings) setter {
	return func(f field) (bool, error) {
		var c dict.SettingsChange
		taken, err := changeInto(num, &c)(f)
		if taken {
			*to = to.With(c)
		}
		return taken, err
	}
}

package ops

import (
	"context"
	"net/http"
	"time"

	"postraft/dict"
)

// TableSettings are the settings of a table; 0 is: not set.
type TableSettings struct {
	MaxEntries      int64 `json:"max_entries"`
	ExpireAfterMS   int64 `json:"expire_after_ms"`
	WriteDeadlineMS int64 `json:"write_deadline_ms"`
	MaxStalenessMS  int64 `json:"max_staleness_ms"`
}

// SettingsOf returns settings as the API shows them.
func SettingsOf(s dict.Settings) TableSettings {
	return TableSettings{s.MaxEntries, s.ExpireAfter.Milliseconds(), s.WriteDeadline.Milliseconds(), s.MaxStaleness.Milliseconds()}
}

// Settings returns them as they count, in whole milliseconds.
func (s TableSettings) Settings() dict.Settings {
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	return dict.Settings{MaxEntries: s.MaxEntries, ExpireAfter: ms(s.ExpireAfterMS), WriteDeadline: ms(s.WriteDeadlineMS), MaxStaleness: ms(s.MaxStalenessMS)}
}

// settingsRequest makes a table with settings, or changes those that are there. Durations are in nanoseconds.
type settingsRequest struct {
	Create        string         `json:"create,omitempty"` // the type of the table to make
	MaxEntries    *int64         `json:"max_entries,omitempty"`
	ExpireAfter   *time.Duration `json:"expire_after,omitempty"`
	WriteDeadline *time.Duration `json:"write_deadline,omitempty"`
	MaxStaleness  *time.Duration `json:"max_staleness,omitempty"`
}

func newSettingsRequest(create string, c dict.SettingsChange) settingsRequest {
	return settingsRequest{create, c.MaxEntries, c.ExpireAfter, c.WriteDeadline, c.MaxStaleness}
}

func (h *handlers) settings(w http.ResponseWriter, r *http.Request) error {
	name, err := tableName(r)
	if err != nil {
		return err
	}
	var req settingsRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	change := dict.SettingsChange{MaxEntries: req.MaxEntries, ExpireAfter: req.ExpireAfter, WriteDeadline: req.WriteDeadline, MaxStaleness: req.MaxStaleness}
	if req.Create != "" {
		err = h.agent.CreateTable(r.Context(), name, req.Create, dict.Settings{}.With(change))
	} else {
		err = noTableIsNotFound(h.agent.SetTable(r.Context(), name, change))
	}
	if err != nil {
		return err
	}
	return h.changed(w)
}

// CreateTable makes an empty table.
func (c *Client) CreateTable(ctx context.Context, name, typ string, settings dict.Settings) error {
	if settings != (dict.Settings{}) { // a request of its own: an agent that knows no settings refuses it
		return c.change(ctx, request{method: "POST", path: "/v1/table/settings", query: table(name), json: newSettingsRequest(typ, settings.Change())})
	}
	q := table(name)
	q.Set("type", typ)
	return c.change(ctx, request{method: "POST", path: "/v1/table", query: q})
}

// SetTable changes settings of a table.
func (c *Client) SetTable(ctx context.Context, name string, change dict.SettingsChange) error {
	return c.change(ctx, request{method: "POST", path: "/v1/table/settings", query: table(name), json: newSettingsRequest("", change)})
}

package ops

import (
	"context"
	"net/http"
)

// Keyring is about the secrets of the cluster. They are named by fingerprints and never told.
type Keyring interface {
	// Keyring lists what each member uses and accepts.
	Keyring(ctx context.Context) ([]KeyringMember, error)

	// ReloadKeyring lets each member read its secret file and certificates again.
	ReloadKeyring(ctx context.Context) ([]KeyringMember, error)

	// UseKey lets each member use a secret that all accept. With force, that some may not.
	UseKey(ctx context.Context, key string, force bool) ([]KeyringMember, error)

	// RemoveKey lets each member forget a secret that none uses. With force, that some may still need.
	RemoveKey(ctx context.Context, key string, force bool) ([]KeyringMember, error)
}

// KeyringMember is what a member has for secrets, by their fingerprints.
type KeyringMember struct {
	Name    string   `json:"name"`
	ID      string   `json:"id"`
	Uses    string   `json:"uses"`
	Accepts []string `json:"accepts"`             // the one in use is the first
	InFile  []string `json:"in_file"`             // of its secret file, which it obeys from its next start on
	Warning string   `json:"warning,omitempty"`   // what is to be done on that host
	Refused string   `json:"refused,omitempty"`   // why it did not do what it was asked
	Silent  string   `json:"no_answer,omitempty"` // why nothing is known of it
	Server  bool     `json:"server"`              // of the raft configuration, not only of the gossip
}

type keyRequest struct {
	Key   string `json:"key"`
	Force bool   `json:"force,omitempty"`
}

func (h *handlers) keyring(w http.ResponseWriter, r *http.Request) error {
	members, err := h.agent.Keyring(r.Context())
	if err != nil {
		return err
	}
	return sendJSON(w, members)
}

func (h *handlers) reloadKeyring(w http.ResponseWriter, r *http.Request) error {
	members, err := h.agent.ReloadKeyring(r.Context())
	if err != nil {
		return err
	}
	return sendJSON(w, members)
}

func (h *handlers) useKey(w http.ResponseWriter, r *http.Request) error {
	return changeKey(w, r, h.agent.UseKey)
}

func (h *handlers) removeKey(w http.ResponseWriter, r *http.Request) error {
	return changeKey(w, r, h.agent.RemoveKey)
}

func changeKey(w http.ResponseWriter, r *http.Request, change func(context.Context, string, bool) ([]KeyringMember, error)) error {
	var req keyRequest
	if err := readJSON(w, r, &req); err != nil {
		return err
	}
	if req.Key == "" {
		return Errorf(Usage, "no fingerprint of a key")
	}
	members, err := change(r.Context(), req.Key, req.Force)
	if err != nil {
		return err
	}
	return sendJSON(w, members)
}

// Keyring lists what each member uses and accepts.
func (c *Client) Keyring(ctx context.Context) (members []KeyringMember, err error) {
	return members, c.do(ctx, request{method: "GET", path: "/v1/keyring", into: &members})
}

// ReloadKeyring lets each member read its secret file and certificates again.
func (c *Client) ReloadKeyring(ctx context.Context) (members []KeyringMember, err error) {
	return members, c.do(ctx, request{method: "POST", path: "/v1/keyring/reload", into: &members, changes: true})
}

// UseKey lets each member use a secret.
func (c *Client) UseKey(ctx context.Context, key string, force bool) (members []KeyringMember, err error) {
	return members, c.do(ctx, request{method: "POST", path: "/v1/keyring/use", json: keyRequest{key, force}, into: &members, changes: true})
}

// RemoveKey lets each member forget a secret.
func (c *Client) RemoveKey(ctx context.Context, key string, force bool) (members []KeyringMember, err error) {
	return members, c.do(ctx, request{method: "POST", path: "/v1/keyring/remove", json: keyRequest{key, force}, into: &members, changes: true})
}
